//! The dashboard: a page that is part of the binary. Nothing is fetched from elsewhere, nothing is built.

use crate::draw::{LEVELS, Theme};
use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The page may load and ask its own origin, and nothing else; nobody may put it into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PAGE: &str = include_str!("../web/index.html");
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type, text.
const ASSETS: [(&str, &str, &str); 8] = [
    ("style.css", "text/css; charset=utf-8", include_str!("../web/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("../web/icon.svg")),
    ("app.js", SCRIPT, include_str!("../web/app.js")),
    ("charts.js", SCRIPT, include_str!("../web/charts.js")),
    ("heatmap.js", SCRIPT, include_str!("../web/heatmap.js")),
    ("panels.js", SCRIPT, include_str!("../web/panels.js")),
    ("stream.js", SCRIPT, include_str!("../web/stream.js")),
    ("util.js", SCRIPT, include_str!("../web/util.js")),
];

/// The page at `/` and what belongs to it.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(page)).route("/assets/{name}", get(asset))
}

async fn page() -> Response {
    text("text/html; charset=utf-8", PAGE.to_owned())
}

async fn asset(Path(name): Path<String>) -> Response {
    if name == "ramp.css" {
        return text("text/css; charset=utf-8", ramp());
    }
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some((_, media_type, content)) => text(media_type, (*content).to_owned()),
        None => (StatusCode::NOT_FOUND, "there is no such asset\n").into_response(),
    }
}

fn text(media_type: &'static str, content: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        // The next version of the daemon has another page under the same name.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, content).into_response()
}

/// The levels of every heatmap, as properties of the page: `--h0` to `--h9`.
fn ramp() -> String {
    let levels = |theme: Theme| {
        (0..LEVELS).map(|l| format!("--h{l}:{};", theme.colour(l))).collect::<Vec<_>>().concat()
    };
    let (light, dark) = (levels(Theme::Light), levels(Theme::Dark));
    format!(":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_that_the_page_names_is_served_and_every_one_served_is_named() {
        let names = |text: &str, before: &str, after: char| -> Vec<String> {
            let parts = text.split(before).skip(1);
            parts.filter_map(|p| p.split(after).next().map(str::to_owned)).collect()
        };
        let mut wanted = names(PAGE, "/assets/", '"');
        for (_, _, content) in ASSETS {
            wanted.extend(names(content, "from \"./", '"'));
        }
        wanted.sort();
        wanted.dedup();
        let mut served: Vec<String> = ASSETS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        served.push("ramp.css".into());
        served.sort();
        assert_eq!(wanted, served);
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for (name, _, content) in ASSETS.into_iter().chain([("index.html", "", PAGE)]) {
            let outside: Vec<&str> =
                content.lines().filter(|l| l.contains("http://") || l.contains("https://")).collect();
            // The name space of SVG is no address that anybody asks.
            assert!(outside.iter().all(|l| l.contains("http://www.w3.org/2000/svg")), "{name}: {outside:?}");
        }
    }

    #[test]
    fn the_ramp_is_that_of_the_pictures() {
        let css = ramp();
        assert!(css.starts_with(":root{--h0:#f1f0e8;") && css.contains("--h9:#0b2f4a;"), "{css}");
        assert!(css.contains("prefers-color-scheme:dark){:root{--h0:#20282c;"));
    }
}
