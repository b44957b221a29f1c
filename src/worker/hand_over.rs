//! The data of an attempt that an outside worker runs: before it is handed over, and after it came back.
//!
//! The same steps as for a child of our own (`attempt.rs`), with somebody else's run between them. An attempt
//! without inputs and outputs needs none of this and gets no work folder.

use super::attempt::{Attempt, Data, Shared};
use super::children::{Child, InFolder, InFolders};
use super::folder::WorkFolder;
use super::inputs::{Placed, ways};
use crate::flow::{Ending, ObjectName, Outcome, Usage};
use crate::message::Assign;
use crate::task::Task;
use crate::time::Span;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What stands ready for an attempt.
pub(super) struct Standing {
    data: Data,
    folder: WorkFolder,
    placed: Vec<Placed>,
    data_wait: Span,
}

impl Standing {
    /// Where it works.
    pub fn workdir(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
    /// Its inputs, and where each stands.
    pub fn inputs(&self) -> Vec<(ObjectName, PathBuf)> {
        let objects = self.data.ready.iter().map(|r| r.input.object.clone());
        objects.zip(self.placed.iter().map(|p| p.path.clone())).collect()
    }
}

/// Whether an attempt has to be made ready at all.
pub(super) fn is_needed(task: &Task) -> bool {
    !task.inputs.is_empty() || !task.outputs.is_empty()
}

/// Makes inputs and work folder ready; an outcome if that cannot be done. It leaves nothing behind then.
pub(super) async fn get_ready(
    shared: Arc<Shared>,
    folders: Arc<InFolders>,
    assign: Assign,
    stop: CancellationToken,
) -> Result<(Assign, Standing), Outcome> {
    let attempt = Attempt { shared: &shared, assign: &assign, stop: stop.clone() };
    let mut data = Data::default();
    let began = shared.clock.now();
    let gathered = attempt.gather(&mut data).await;
    let data_wait = shared.clock.now().since(began);
    // Somebody else's process has no mount namespace of ours, so nothing can be protected by a mount.
    let mode = folders.catalogue.get(assign.task.task_type).input_mode;
    let (ways, _) = ways(mode.into(), folders.as_root, false);
    let prepared = match gathered {
        Ok(()) if stop.is_cancelled() => Err(Ending::Cancelled),
        Ok(()) => {
            let child = Child { assign: &assign, ready: &data.ready, stop: &stop };
            let prepared = InFolder::new(&folders, child).prepare(ways).await;
            prepared.map_err(|error| Ending::SpawnFailed { error })
        }
        Err(ending) => Err(ending),
    };
    match prepared {
        Ok((folder, placed)) => Ok((assign, Standing { data, folder, placed, data_wait })),
        Err(ending) => {
            data.let_go(&shared).await;
            Err(attempt.outcome(ending, Usage::default(), data_wait, data))
        }
    }
}

/// The attempt came back, or will not: inputs are compared and taken away, outputs published if it did well.
pub(super) async fn take_back(
    shared: Arc<Shared>,
    folders: Arc<InFolders>,
    assign: Assign,
    standing: Standing,
    ending: Ending,
    usage: Usage,
) -> Outcome {
    let stop = CancellationToken::new();
    let attempt = Attempt { shared: &shared, assign: &assign, stop: stop.clone() };
    let Standing { mut data, folder, placed, data_wait } = standing;
    let ending = {
        let child = Child { assign: &assign, ready: &data.ready, stop: &stop };
        let in_folder = InFolder::new(&folders, child);
        let ending = match in_folder.take_inputs_away(&folder, placed).await {
            Some(object) => Ending::InputModified { object },
            None if ending.is_done() => in_folder.publish(&folder).await,
            None => ending,
        };
        in_folder.clean(folder, &ending).await;
        ending
    };
    data.let_go(&shared).await;
    attempt.outcome(ending, usage, data_wait, data)
}

/// The outcome of an attempt that had nothing to be made ready.
pub(super) fn plain_outcome(shared: &Shared, assign: &Assign, ending: Ending, usage: Usage) -> Outcome {
    let attempt = Attempt { shared, assign, stop: CancellationToken::new() };
    attempt.outcome(ending, usage, Span::ZERO, Data::default())
}
