//! Credentials of a source: from systemd's credentials folder or the environment, never shown.

use std::fmt;
use std::path::Path;

/// A text that no log, error or debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }
    /// The text itself: for the request that needs it, nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// What a source may need to prove who we are. All absent means anonymous requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// HTTP: sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// HTTP: user name of basic authentication.
    pub username: Option<Secret>,
    /// HTTP: password of basic authentication.
    pub password: Option<Secret>,
    /// S3: access key id.
    pub access_key_id: Option<Secret>,
    /// S3: secret access key.
    pub secret_access_key: Option<Secret>,
    /// S3: session token of temporary keys.
    pub session_token: Option<Secret>,
}

impl Credentials {
    /// Looks for the credentials of the source `name`, key by key; the first hit counts:
    ///
    /// 1. the file `<folder>/<name>.<key>`, where `folder` is systemd's `$CREDENTIALS_DIRECTORY`
    ///    (`LoadCredential=volumes.token:/etc/forestage/volumes.token`),
    /// 2. the variable `FORESTAGE_SOURCE_<NAME>_<KEY>`, with everything but letters and digits as `_`,
    /// 3. for the three S3 keys, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    ///
    /// `variable` reads one environment variable. A final line break of a file is dropped; an empty value
    /// counts as absent.
    pub fn find(name: &str, folder: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Credentials {
        let own = |key: &str| {
            let file = folder.and_then(|f| std::fs::read_to_string(f.join(format!("{name}.{key}"))).ok());
            file.map(|t| t.trim_end_matches(['\n', '\r']).to_owned())
                .filter(|t| !t.is_empty())
                .or_else(|| variable(&variable_name(name, key)).filter(|t| !t.is_empty()))
                .map(Secret::new)
        };
        let or_aws = |key: &str, aws: &str| {
            own(key).or_else(|| variable(aws).filter(|t| !t.is_empty()).map(Secret::new))
        };
        Credentials {
            token: own("token"),
            username: own("username"),
            password: own("password"),
            access_key_id: or_aws("access_key_id", "AWS_ACCESS_KEY_ID"),
            secret_access_key: or_aws("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
            session_token: or_aws("session_token", "AWS_SESSION_TOKEN"),
        }
    }
}

fn variable_name(source: &str, key: &str) -> String {
    let upper = |t: &str| -> String {
        t.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    };
    format!("FORESTAGE_SOURCE_{}_{}", upper(source), upper(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_wins_over_a_variable_and_a_variable_over_aws_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("my-nas.token"), "from file\n").unwrap();
        let vars = |k: &str| match k {
            "FORESTAGE_SOURCE_MY_NAS_TOKEN" => Some("from variable".to_owned()),
            "FORESTAGE_SOURCE_MY_NAS_ACCESS_KEY_ID" => Some("own".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("aws".to_owned()),
            _ => None,
        };
        let c = Credentials::find("my-nas", Some(dir.path()), vars);
        assert_eq!(c.token, Some(Secret::new("from file")));
        assert_eq!(c.access_key_id, Some(Secret::new("own")));
        assert_eq!(c.secret_access_key, Some(Secret::new("aws")));
        assert_eq!(c.password, None);
        assert_eq!(Credentials::find("my-nas", None, vars).token, Some(Secret::new("from variable")));
    }

    #[test]
    fn debug_output_hides_secrets() {
        let c = Credentials { token: Some(Secret::new("hunter2")), ..Credentials::default() };
        assert!(!format!("{c:?}").contains("hunter2"));
    }
}
