//! Names of objects: `source:path`.

use crate::flow::ObjectName;

/// Longest object name, bytes. Sources refuse longer paths (S3's limit is 1,024).
pub const NAME_LIMIT_BYTES: usize = 1_024;

/// Why a text names no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not an object name: {why}; accepted: SOURCE:PATH, relative, without `..`, at most 1024 bytes"
)]
pub struct BadObjectName {
    /// The text, cut to a printable length.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads an object's name. The path is relative and stays beneath its source: no empty, `.` or `..` part.
///
/// # Errors
/// [`BadObjectName`] says what is wrong.
pub fn parse_object(name: &str) -> Result<ObjectName, BadObjectName> {
    let bad = |why| BadObjectName {
        name: name.chars().take(120).collect::<String>().escape_debug().to_string(),
        why,
    };
    if name.len() > NAME_LIMIT_BYTES {
        return Err(bad("it is too long"));
    }
    let Some((source, path)) = name.split_once(':') else {
        return Err(bad("it has no `:`"));
    };
    if source.is_empty() {
        return Err(bad("the source is empty"));
    }
    if !source.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err(bad("the source's name holds something else than letters, digits, `_` and `-`"));
    }
    if path.chars().any(char::is_control) {
        return Err(bad("the path holds a control character"));
    }
    for part in path.split('/') {
        match part {
            "" => return Err(bad("the path has an empty part")),
            "." | ".." => return Err(bad("the path leaves its folder")),
            _ => {}
        }
    }
    Ok(ObjectName::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_and_says_what_is_wrong_with_others() {
        let check = |name: &str, why: Option<&str>| match (parse_object(name), why) {
            (Ok(o), None) => assert_eq!(o.as_str(), name),
            (Err(e), Some(why)) => assert!(e.to_string().contains(why), "{e}"),
            (got, _) => panic!("{name}: {got:?}"),
        };
        check("volumes:vol-7/data.img", None);
        check("v:a:b", None);
        check("volumes", Some("no `:`"));
        check(":x", Some("source is empty"));
        check("a/b:x", Some("source's name"));
        check("v:", Some("empty part"));
        check("v:/etc/passwd", Some("empty part"));
        check("v:a/../../b", Some("leaves its folder"));
        check("v:a\n", Some("control character"));
        check(&format!("v:{}", "x".repeat(1100)), Some("too long"));
    }

    #[test]
    fn splits_into_source_and_path() {
        let o = parse_object("volumes:vol-7/a:b").unwrap();
        assert_eq!((o.source(), o.path()), ("volumes", "vol-7/a:b"));
    }
}
