//! The one colour ramp: ten levels from paper to deep blue (light) or from ink to pale yellow (dark).
//!
//! Lightness falls (light) or rises (dark) strictly from level to level, so the order survives print in grey
//! and every kind of colour blindness; hue only helps. Levels are interpolated in OKLab (Björn Ottosson,
//! "A perceptual color space for image processing", 2020), where equal steps look equal.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How many levels there are: one for each digit.
pub const LEVELS: usize = 10;

/// The level of a share of the scale: 0 for [0, .1), … 9 for [.9, 1]. Below 0 and NaN give 0, above 1 gives 9.
pub fn level(share: f64) -> usize {
    // `as` saturates and maps NaN to 0. The epsilon lets .3/.1 be 3, not 2.999….
    ((share * LEVELS as f64 + 1e-9) as usize).min(LEVELS - 1)
}

/// What the map is drawn on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// Dark ink on paper.
    #[default]
    Light,
    /// Light ink on dark ground.
    Dark,
}

/// A colour in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl fmt::Display for Rgb {
    /// `#rrggbb`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

const fn rgb(hex: u32) -> Rgb {
    Rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const LIGHT: [Rgb; 7] =
    [rgb(0xf1f0e8), rgb(0xd5dbc0), rgb(0xa9c3a0), rgb(0x6aa38f), rgb(0x2f7f83), rgb(0x16556b), rgb(0x0b2f4a)];
const DARK: [Rgb; 7] =
    [rgb(0x20282c), rgb(0x27413f), rgb(0x2c5a55), rgb(0x357a6c), rgb(0x58a07c), rgb(0xa2c47c), rgb(0xf0e28a)];

/// The colours around the map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    /// The ground.
    pub ground: Rgb,
    /// Titles and figures.
    pub ink: Rgb,
    /// Labels, and lines where nothing was measured.
    pub soft: Rgb,
}

impl Theme {
    /// Its ground, ink and lines.
    pub(super) fn palette(self) -> Palette {
        match self {
            Theme::Light => Palette { ground: rgb(0xffffff), ink: rgb(0x1d2327), soft: rgb(0x4d575e) },
            Theme::Dark => Palette { ground: rgb(0x1b2125), ink: rgb(0xe6e9ea), soft: rgb(0x98a3a9) },
        }
    }

    /// The colour of a level, 0 to [`LEVELS`] − 1; larger ones are drawn as the last.
    pub fn colour(self, level: usize) -> Rgb {
        let stops = match self {
            Theme::Light => &LIGHT,
            Theme::Dark => &DARK,
        };
        let at = level.min(LEVELS - 1) as f64 / (LEVELS - 1) as f64 * (stops.len() - 1) as f64;
        let below = (at as usize).min(stops.len() - 2);
        let (a, b, part) = (oklab(stops[below]), oklab(stops[below + 1]), at - below as f64);
        from_oklab([0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * part))
    }

    /// The colour among xterm's 256 (its cube and its greys; the first 16 are the user's own), as its number
    /// and itself. The tables are the ten numbers nearest in OKLab, lightness counted double, among those
    /// that keep the order for every eye of the test below; the plain nearest ones do not.
    pub fn colour_256(self, level: usize) -> (u8, Rgb) {
        let numbers = match self {
            Theme::Light => [255, 254, 151, 250, 108, 245, 30, 24, 238, 236],
            Theme::Dark => [235, 236, 238, 23, 241, 30, 36, 143, 150, 222],
        };
        let number = numbers[level.min(LEVELS - 1)];
        (number, xterm(number))
    }
}

/// The colour of xterm's number `i`, 16 to 255.
fn xterm(i: u8) -> Rgb {
    if i >= 232 {
        let grey = 8 + 10 * (i - 232);
        return Rgb(grey, grey, grey);
    }
    let part = |v: u8| if v == 0 { 0 } else { 55 + 40 * v };
    let i = i - 16;
    Rgb(part(i / 36), part(i / 6 % 6), part(i % 6))
}

fn linear(c: u8) -> f64 {
    let c = f64::from(c) / 255.0;
    if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
}

fn gamma(c: f64) -> u8 {
    let c = if c <= 0.003_130_8 { c * 12.92 } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 };
    (c * 255.0).round() as u8
}

/// sRGB to OKLab, matrices as published.
#[allow(clippy::many_single_char_names, clippy::excessive_precision, reason = "the formula's own names")]
fn oklab(c: Rgb) -> [f64; 3] {
    let (r, g, b) = (linear(c.0), linear(c.1), linear(c.2));
    let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
    let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
    let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
    [
        0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
        1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
        0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
    ]
}

/// OKLab to sRGB, clipped.
#[allow(clippy::many_single_char_names, clippy::excessive_precision, reason = "the formula's own names")]
fn from_oklab([light, a, b]: [f64; 3]) -> Rgb {
    let l = (light + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (light - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (light - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    Rgb(
        gamma(4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s),
        gamma(-1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s),
        gamma(-0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_tenths() {
        for (share, digit) in
            [(0.0, 0), (0.099, 0), (0.3, 3), (0.7, 7), (0.95, 9), (1.0, 9), (3.0, 9), (-1.0, 0)]
        {
            assert_eq!(level(share), digit, "{share}");
        }
        assert_eq!(level(f64::NAN), 0);
    }

    #[test]
    fn the_ramp_begins_and_ends_with_its_stops() {
        assert_eq!(Theme::Light.colour(0), LIGHT[0]);
        assert_eq!(Theme::Light.colour(9), LIGHT[6]);
        assert_eq!(Theme::Dark.colour(9).to_string(), "#f0e28a");
    }

    /// What a colour-blind eye sees, by the matrices of Machado, Oliveira and Fernandes, "A
    /// Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.
    fn seen(c: Rgb, matrix: [[f64; 3]; 3]) -> Rgb {
        let lin = [linear(c.0), linear(c.1), linear(c.2)];
        let out = matrix.map(|row| row.iter().zip(lin).map(|(m, v)| m * v).sum::<f64>().clamp(0.0, 1.0));
        Rgb(gamma(out[0]), gamma(out[1]), gamma(out[2]))
    }

    #[test]
    fn order_survives_grey_and_colour_blindness() {
        let eyes = [
            ("all colours", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
            ("no red", [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
            ("no green", [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
            ("no blue", [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
            ("grey", [[0.2126, 0.7152, 0.0722]; 3]),
        ];
        for theme in [Theme::Light, Theme::Dark] {
            for (eye, matrix) in eyes {
                for (name, colours) in [
                    ("24 bits", (0..LEVELS).map(|l| theme.colour(l)).collect::<Vec<_>>()),
                    ("256 colours", (0..LEVELS).map(|l| theme.colour_256(l).1).collect()),
                ] {
                    let light: Vec<f64> = colours.iter().map(|&c| oklab(seen(c, matrix))[0]).collect();
                    for pair in light.windows(2) {
                        let rise = if theme == Theme::Dark { pair[1] - pair[0] } else { pair[0] - pair[1] };
                        assert!(rise > 0.015, "{theme:?}, {eye}, {name}: {light:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn oklab_is_its_own_inverse() {
        for c in [rgb(0x123456), rgb(0xffffff), rgb(0), rgb(0xf0e28a)] {
            assert_eq!(from_oklab(oklab(c)), c);
        }
    }
}
