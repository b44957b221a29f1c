//! The right data: what was written is what is read, with staging on.

use crate::house::House;
use serde_json::json;

const TYPES: &str = r#"
[type.overwrite]
argv = ["sh", "-c", "printf %s \"$FORESTAGE_ARG_TEXT\" > \"$1/new\" && mv \"$1/new\" \"$1/data.img\"", "sh", "VOLUMES/{entity}"]
args = { text = "[a-z0-9]+" }
writes = ["volumes:{entity}/data.img"]
[type.copy]
argv = ["cp", "{input.0}", "out/copy.img"]
inputs = ["volumes:{entity}/data.img"]
outputs = [{ file = "copy.img", object = "copies:{entity}/copy.img" }]
writes = ["copies:{entity}/copy.img"]
"#;

fn house() -> House {
    let house = House::new(TYPES);
    let volumes = house.path("volumes").display().to_string();
    house.replacing("VOLUMES", &volumes)
}

#[test]
fn a_copy_after_an_overwrite_gets_the_new_bytes_every_time() {
    let mut house = house();
    house.volume("vol-1", b"first");
    house.start();
    for round in 0..20 {
        let text = format!("text{round}");
        let write = house.submit(json!({"type": "overwrite", "entity": "vol-1", "args": {"text": text}}));
        let copy = house.submit(json!({"type": "copy", "entity": "vol-1", "after": [write]}));
        house.wait_done(copy);
        let got = std::fs::read_to_string(house.path("copies/vol-1/copy.img")).unwrap();
        assert_eq!(got, text, "round {round}");
    }
}
