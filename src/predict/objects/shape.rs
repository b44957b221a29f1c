//! Names as shapes with numbers in them.
//!
//! A name's *shape* is the name with every run of digits replaced by `#`; its *fields* are those numbers. So
//! `vol-7/part-0012` is `vol-#/part-#` with 7 and 12. Leading zeros are kept: a shape remembers how wide its
//! zero-filled fields are, so that 0012 is followed by 0013. Names that look like hashes have no fields.

use std::fmt::Write as _;

/// Numbers that are read out of a name at most; further digits belong to the shape.
pub(super) const FIELDS: usize = 4;
/// The numbers in a name, in order; zero beyond its shape's fields.
pub(super) type Fields = [u64; FIELDS];
/// Digits of a number at most: it then fits in 53 bits, so that differences cannot overflow.
const MAX_DIGITS: usize = 15;
/// For each field the width of a zero-filled number; zero where there is no leading zero.
pub(super) type Widths = [u8; FIELDS];
/// A run of letters and digits at least this long in which a letter follows a digit looks like a hash.
const HASH_LEN: usize = 8;

/// A name, taken apart.
pub(super) struct Parsed {
    /// Its numbers.
    pub(super) fields: Fields,
    /// How wide its zero-filled numbers are.
    pub(super) widths: Widths,
    /// How many numbers there are.
    pub(super) count: usize,
}

pub(super) fn digits(number: u64) -> u32 {
    number.checked_ilog10().map_or(1, |d| d + 1)
}

/// A name's shape and the numbers in it.
pub fn shape_of(name: &str) -> (String, Vec<u64>) {
    let mut shape = String::new();
    let parsed = parse(name, &mut shape);
    (shape, parsed.fields[..parsed.count].to_vec())
}

/// Splits a name into its shape (written to `shape`) and its numbers.
pub(super) fn parse(name: &str, shape: &mut String) -> Parsed {
    shape.clear();
    let mut parsed = Parsed { fields: [0; FIELDS], widths: [0; FIELDS], count: 0 };
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(word);
        if looks_like_a_hash(run) {
            shape.push_str(run)
        } else {
            parse_word(run, shape, &mut parsed)
        }
        let gap = tail.find(|c: char| c.is_ascii_alphanumeric()).unwrap_or(tail.len());
        shape.push_str(&tail[..gap]);
        rest = &tail[gap..];
    }
    parsed
}

/// Long, with a letter behind a digit: `e05e6854aa4`, not `chunk0012` or `v2`. Numbers inside such a word do
/// not count anything.
fn looks_like_a_hash(word: &str) -> bool {
    word.len() >= HASH_LEN
        && word
            .find(|c: char| c.is_ascii_digit())
            .is_some_and(|d| word[d..].contains(|c: char| !c.is_ascii_digit()))
}

fn parse_word(word: &str, shape: &mut String, parsed: &mut Parsed) {
    let mut rest = word;
    while !rest.is_empty() {
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        shape.push_str(&rest[..letters]);
        rest = &rest[letters..];
        let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(len);
        match number.parse() {
            Ok(value) if parsed.count < FIELDS && len <= MAX_DIGITS => {
                parsed.fields[parsed.count] = value;
                parsed.widths[parsed.count] = if len > 1 && number.starts_with('0') { len as u8 } else { 0 };
                parsed.count += 1;
                shape.push('#');
            }
            _ => shape.push_str(number),
        }
        rest = tail;
    }
}

/// The name of a shape with these numbers. A `#` that stood in the original name is beyond the fields only if
/// the name had one; such a name is spelled wrong, and does not exist, which costs one failed request.
pub(super) fn spell(shape: &str, fields: &Fields, widths: &Widths, name: &mut String) {
    name.clear();
    let mut i = 0;
    for c in shape.chars() {
        if c == '#' && i < FIELDS {
            let (number, width) = (fields[i], usize::from(widths[i]));
            write!(name, "{number:0width$}").expect("writing to a text cannot fail");
            i += 1;
        } else {
            name.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_split_into_shape_and_numbers() {
        for (text, shape, fields) in [
            ("volumes:vol-7/part-0012", "volumes:vol-#/part-#", vec![7, 12]),
            ("p3/28792", "p#/#", vec![3, 28792]),
            ("e05e6854aa4", "e05e6854aa4", vec![]),
            ("chunk0012", "chunk#", vec![12]),
            ("1234567890123456", "1234567890123456", vec![]),
            ("a1b2c3d4e", "a1b2c3d4e", vec![]),
            ("a1b2/9", "a#b#/#", vec![1, 2, 9]),
            ("größe-5", "größe-#", vec![5]),
            ("1-2-3-4-5", "#-#-#-#-5", vec![1, 2, 3, 4]),
        ] {
            let mut found = String::new();
            let parsed = parse(text, &mut found);
            assert_eq!((found.as_str(), &parsed.fields[..parsed.count]), (shape, &fields[..]), "{text}");
        }
    }
}
