//! Progress on standard error; nothing where that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `len` steps, with a word before it.
pub fn bar(word: &str, len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    let style = ProgressStyle::with_template("{prefix}  {bar:24}  {pos} / {len}  {elapsed}  {msg}");
    bar.set_style(style.expect("the template is a constant that parses").progress_chars("█▌ "));
    bar.set_prefix(word.to_owned());
    bar
}

/// Work whose length nobody knows.
pub fn spinner(word: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    spinner.set_message(word.to_owned());
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}

/// A bar over a file's bytes; a spinner where the length is unknown.
pub fn bytes(word: &str, length: u64) -> ProgressBar {
    if length == 0 {
        return spinner(word);
    }
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{prefix}  {bar:24}  {bytes} / {total_bytes}  {elapsed}");
    bar.set_style(style.expect("the template is a constant that parses").progress_chars("█▌ "));
    bar.set_prefix(word.to_owned());
    bar
}
