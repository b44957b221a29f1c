//! The daemon as a process: one for a state folder, its socket, its stop.

use crate::house::{BIN, House, until};
use std::process::{Command, Stdio};

#[test]
fn stops_cleanly_and_removes_its_socket() {
    let mut house = House::new("");
    house.start();
    assert!(house.socket().exists());
    assert!(house.stop(), "{}", house.log());
    assert!(!house.socket().exists(), "the socket is removed last");
}

#[test]
fn a_second_daemon_is_told_who_has_the_state() {
    let mut house = House::new("");
    house.start();
    let second =
        Command::new(BIN).args(["serve", "--config"]).arg(house.path("forestage.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(said.contains(&format!("process {}", house.pid())), "{said}");
    house.get("/v1/health");
}

#[test]
fn a_stale_socket_is_replaced() {
    let mut house = House::new("");
    house.start();
    house.crash();
    assert!(house.socket().exists(), "a crash leaves it");
    house.start();
    house.get("/v1/health");
}

#[test]
fn an_idle_daemon_is_small_and_starts_quickly() {
    let mut house = House::new("");
    house.start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", house.pid())).unwrap();
    let rss_kib: u64 = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap();
    let log = house.log();
    let took = log.split("took_ms=").nth(1).and_then(|t| t.split_whitespace().next()).unwrap_or("?");
    println!("idle daemon: {} KiB resident, ready after {took} ms", rss_kib);
    // The figures belong to a quiet machine and a release build; here only a leak or a stall would show.
    assert!(rss_kib < 150 << 10, "{rss_kib} KiB");
}

#[test]
fn every_shipped_configuration_is_accepted() {
    let config = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in ["forestage.toml", "minimal.toml"] {
        let house = House::new("");
        let check = house.cli(&["check-config", config.join(name).to_str().unwrap()]);
        assert!(check.status.success(), "{name}: {}", String::from_utf8_lossy(&check.stderr));
    }
}

#[test]
fn tells_systemd_that_it_is_ready() {
    let mut house = House::new("");
    let path = house.path("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    house.start();
    house.stop();
    let mut child = Command::new(BIN)
        .args(["serve", "--config"])
        .arg(house.path("forestage.toml"))
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    until("READY=1", || {
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer).ok()?;
        said.push_str(&String::from_utf8_lossy(&buffer[..n]));
        said.contains("READY=1").then_some(())
    });
    crate::house::signal(child.id(), "TERM");
    until("it stops", || child.try_wait().unwrap());
}
