//! The SVG picture as PNG, with a font from inside the binary: no system font is looked at.

use super::model::{Error, Heatmap};
use super::svg::{SvgStyle, svg};
use resvg::{tiny_skia, usvg};
use std::sync::{Arc, OnceLock};

/// Most pixels of one picture: 64 million take 256 MB while it is drawn.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Largest scale.
pub const MAX_SCALE: f32 = 4.0;

/// The picture of [`svg()`], `scale` pixels to the px (.25 to [`MAX_SCALE`]; 2 for dense screens).
///
/// The font has Latin, Greek and Cyrillic letters; others in labels stay blank here, not in SVG.
///
/// # Errors
/// What [`Heatmap::check`] says, and [`Error::Pixels`] if it would get too large.
pub fn png(map: &Heatmap, style: &SvgStyle, scale: f32) -> Result<Vec<u8>, Error> {
    let document = svg(map, style)?;
    let options =
        usvg::Options { fontdb: fonts(), font_family: "Ubuntu".to_owned(), ..usvg::Options::default() };
    let failed = |reason: String| Error::Picture { reason };
    let tree = usvg::Tree::from_str(&document, &options).map_err(|e| failed(e.to_string()))?;
    let side = |px: f32| (px * scale).ceil() as u64;
    let (width, height) = (side(tree.size().width()), side(tree.size().height()));
    if !(0.25..=MAX_SCALE).contains(&scale) || width * height > MAX_PIXELS {
        return Err(Error::Pixels { width, height });
    }
    let mut picture = u32::try_from(width)
        .ok()
        .zip(u32::try_from(height).ok())
        .and_then(|(w, h)| tiny_skia::Pixmap::new(w, h))
        .ok_or(Error::Pixels { width, height })?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut picture.as_mut());
    picture.encode_png().map_err(|e| failed(e.to_string()))
}

/// The font, parsed once for the process.
fn fonts() -> Arc<usvg::fontdb::Database> {
    static FONTS: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let load = || {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
        fonts.set_sans_serif_family("Ubuntu");
        Arc::new(fonts)
    };
    FONTS.get_or_init(load).clone()
}

#[cfg(test)]
mod tests {
    use super::super::model::example;
    use super::super::{Theme, Zone};
    use super::*;

    fn pixels(map: &Heatmap, style: &SvgStyle, scale: f32) -> tiny_skia::Pixmap {
        tiny_skia::Pixmap::decode_png(&png(map, style, scale).unwrap()).unwrap()
    }

    fn count(picture: &tiny_skia::Pixmap, colour: crate::draw::Rgb) -> usize {
        let same = |p: &&tiny_skia::PremultipliedColorU8| {
            (p.red(), p.green(), p.blue()) == (colour.0, colour.1, colour.2)
        };
        picture.pixels().iter().filter(same).count()
    }

    #[test]
    fn the_picture_has_the_ramps_colours_and_text() {
        for theme in [Theme::Light, Theme::Dark] {
            let style = SvgStyle { theme, zone: Zone::UTC, max_width_px: None };
            let picture = pixels(&example(), &style, 1.0);
            for level in 0..crate::draw::LEVELS {
                assert!(count(&picture, theme.colour(level)) > 100, "{theme:?} level {level}");
            }
            // Nine labels, a title, a legend: missing glyphs would leave the ground empty.
            let mut nameless = example();
            nameless.title = String::new();
            nameless.rows.iter_mut().for_each(|r| r.label = " ".repeat(r.label.len()));
            let ground = theme.palette().ground;
            let wide = count(&pixels(&nameless, &style, 1.0), ground);
            assert!(count(&picture, ground).abs_diff(wide) > 1_000, "{theme:?}");
        }
    }

    #[test]
    fn scale_makes_it_larger_and_has_limits() {
        let style = SvgStyle::default();
        let (one, two) = (pixels(&example(), &style, 1.0), pixels(&example(), &style, 2.0));
        assert_eq!((one.width() * 2, one.height() * 2), (two.width(), two.height()));
        for scale in [0.0, -1.0, f32::NAN, 5.0] {
            assert!(matches!(png(&example(), &style, scale), Err(Error::Pixels { .. })), "{scale}");
        }
    }

    #[test]
    fn the_same_map_gives_the_same_bytes() {
        let style = SvgStyle::default();
        assert_eq!(png(&example(), &style, 1.0).unwrap(), png(&example(), &style, 1.0).unwrap());
    }
}
