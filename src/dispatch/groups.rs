//! Groups of tasks: who is paused, who is at its limit, and whose turn it is.
//!
//! Groups share the slots by weight: stride scheduling (Waldspurger and Weihl, *Stride Scheduling*, MIT 1995).
//! Each start advances its group's pass by the expected time over the weight, and the group with the least
//! pass goes first, after class and before affinity. A group that had nothing to do does not save up turns.

use super::lanes::GroupId;
use crate::flow::Map;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most groups that have settings or unfinished tasks: each is looked at in a decision.
pub const GROUPS_LIMIT: usize = 1_024;

/// What can be set of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSettings {
    /// Whether none of its tasks starts.
    #[serde(default)]
    pub paused: bool,
    /// Its share of the slots when others want them too, relative to theirs; above 0 to 1,000.
    #[serde(default = "one")]
    pub weight: f64,
    /// Most of its tasks that run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Most of its tasks that are unfinished; a submit beyond is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u32>,
}

fn one() -> f64 {
    1.0
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings { paused: false, weight: 1.0, max_running: None, max_queued: None }
    }
}

/// A group as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    /// Its name; empty for tasks that name none.
    pub name: Arc<str>,
    /// What was set.
    pub settings: GroupSettings,
    /// Its unfinished tasks, running ones included.
    pub unfinished: u32,
    /// Its running tasks.
    pub running: u32,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    settings: GroupSettings,
    unfinished: u32,
    running: u32,
    /// Slot seconds it has had, over its weight.
    pass: f64,
}

impl Group {
    fn idle(&self) -> bool {
        self.unfinished == 0 && self.settings == GroupSettings::default()
    }
}

/// All groups; the first is of tasks that name none.
#[derive(Debug)]
pub struct Groups {
    all: Vec<Group>,
    by_name: Map<Arc<str>, GroupId>,
    /// Pass of the group that started last.
    pass: f64,
}

impl Default for Groups {
    fn default() -> Groups {
        let mut groups = Groups { all: Vec::new(), by_name: Map::default(), pass: 0.0 };
        groups.find_or_add("");
        groups
    }
}

impl Groups {
    /// A group by its name; `None` if there are too many already.
    pub fn find_or_add(&mut self, name: &str) -> Option<GroupId> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        let name: Arc<str> = name.into();
        let group = Group {
            name: name.clone(),
            settings: GroupSettings::default(),
            unfinished: 0,
            running: 0,
            pass: self.pass,
        };
        let at = if self.all.len() < GROUPS_LIMIT {
            self.all.push(group);
            self.all.len() - 1
        } else {
            // The first group is never given away: tasks without a group come at any time.
            let at = 1 + self.all.iter().skip(1).position(Group::idle)?;
            self.by_name.remove(&self.all[at].name);
            self.all[at] = group;
            at
        };
        let id = GroupId(at as u16);
        self.by_name.insert(name, id);
        Some(id)
    }

    /// A group's number by its name.
    pub fn find(&self, name: &str) -> Option<GroupId> {
        self.by_name.get(name).copied()
    }

    fn get(&self, id: GroupId) -> &Group {
        &self.all[usize::from(id.0)]
    }

    fn get_mut(&mut self, id: GroupId) -> &mut Group {
        &mut self.all[usize::from(id.0)]
    }

    /// Its name.
    pub fn name(&self, id: GroupId) -> &Arc<str> {
        &self.get(id).name
    }

    /// What was set.
    pub fn settings(&self, id: GroupId) -> &GroupSettings {
        &self.get(id).settings
    }

    /// Sets it.
    pub fn set(&mut self, id: GroupId, settings: GroupSettings) {
        self.get_mut(id).settings = settings;
        self.catch_up(id);
    }

    /// Unfinished tasks of a group.
    pub fn unfinished(&self, id: GroupId) -> u32 {
        self.get(id).unfinished
    }

    /// How many more tasks it may take in; `None` is no limit.
    pub fn room(&self, id: GroupId) -> Option<u32> {
        let g = self.get(id);
        g.settings.max_queued.map(|limit| limit.saturating_sub(g.unfinished))
    }

    /// Whether one more of its tasks may start.
    pub fn may_start(&self, id: GroupId) -> bool {
        let g = self.get(id);
        !g.settings.paused && g.settings.max_running.is_none_or(|limit| g.running < limit)
    }

    /// A task came in.
    pub fn came(&mut self, id: GroupId) {
        self.get_mut(id).unfinished += 1;
    }

    /// An unfinished task ended.
    pub fn went(&mut self, id: GroupId) {
        let g = self.get_mut(id);
        g.unfinished = g.unfinished.checked_sub(1).expect("a task goes once");
    }

    /// An attempt began, expected to take so long.
    pub fn started(&mut self, id: GroupId, expected: Span) {
        let g = self.get_mut(id);
        g.running += 1;
        let began = g.pass;
        g.pass += expected.as_s().max(1e-3) / g.settings.weight;
        self.pass = self.pass.max(began);
    }

    /// An attempt ended.
    pub fn ended(&mut self, id: GroupId) {
        let g = self.get_mut(id);
        g.running = g.running.checked_sub(1).expect("an attempt ends once");
    }

    /// Whose turn it is: the least goes first.
    pub fn turn(&self, id: GroupId) -> f64 {
        self.get(id).pass
    }

    /// A group has something ready again, or may start again: it begins where the others are. Turns that it
    /// could not use are gone, or it would shut out the others now.
    pub fn catch_up(&mut self, id: GroupId) {
        let pass = self.pass;
        let g = self.get_mut(id);
        g.pass = g.pass.max(pass);
    }

    /// All groups that have unfinished tasks or settings, by name.
    pub fn views(&self) -> Vec<GroupView> {
        let mut views: Vec<GroupView> = self
            .all
            .iter()
            .filter(|g| !g.idle())
            .map(|g| GroupView {
                name: g.name.clone(),
                settings: g.settings.clone(),
                unfinished: g.unfinished,
                running: g.running,
            })
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts whose turn it is, `n` times, all groups having enough to do; how often each started.
    fn play(groups: &mut Groups, ids: &[GroupId], n: usize) -> Vec<usize> {
        let mut starts = vec![0; ids.len()];
        for _ in 0..n {
            let at =
                (0..ids.len()).min_by(|a, b| groups.turn(ids[*a]).total_cmp(&groups.turn(ids[*b]))).unwrap();
            groups.started(ids[at], Span::from_secs(1));
            groups.ended(ids[at]);
            starts[at] += 1;
        }
        starts
    }

    #[test]
    fn slots_are_shared_by_weight_and_nobody_saves_up() {
        let mut groups = Groups::default();
        let ids: Vec<GroupId> = ["a", "b", "c"].iter().map(|n| groups.find_or_add(n).unwrap()).collect();
        for (id, weight) in ids.iter().zip([1.0, 2.0, 4.0]) {
            groups.set(*id, GroupSettings { weight, ..GroupSettings::default() });
        }
        assert_eq!(play(&mut groups, &ids[..2], 300), [100, 200]);
        // The third comes late: it gets its share from now on and no more.
        groups.catch_up(ids[2]);
        let starts = play(&mut groups, &ids, 700);
        for (got, share) in starts.iter().zip([100, 200, 400]) {
            assert!(got.abs_diff(share) <= 2, "{starts:?}");
        }
    }

    #[test]
    fn names_of_idle_groups_are_given_away_and_others_are_not() {
        let mut groups = Groups::default();
        for i in 1..GROUPS_LIMIT {
            let id = groups.find_or_add(&format!("g{i}")).unwrap();
            groups.came(id);
        }
        assert_eq!(groups.find_or_add("more"), None);
        let idle = groups.find("g7").unwrap();
        groups.went(idle);
        assert_eq!(groups.find_or_add("more"), Some(idle));
        assert_eq!((groups.find("g7"), groups.unfinished(idle)), (None, 0));
    }
}
