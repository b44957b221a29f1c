//! Trees of files for what this machine may not have, and the real kernel.

use super::*;
use crate::time::Time;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::{fs, io};

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

const STAT: &str = "cpu  1000 50 300 8000 200 10 20 5 0 0\n\
    cpu0 500 25 150 4000 100 5 10 3 0 0\ncpu1 500 25 150 4000 100 5 10 2 0 0\n\
    intr 0\nctxt 1\nbtime 1700000000\nprocesses 9\nprocs_running 1\nprocs_blocked 0\n";
const MEMINFO: &str = "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:   600 kB\nCached: 300 kB\n";
const DISKSTATS: &str = "   8       0 sda 1 0 100 5 2 0 200 6 0 7000 8\n\
       8       1 sda1 1 0 90 5 2 0 190 6 0 6000 8\n 253       0 dm-0 1 0 100 5 2 0 200 6 0 9000 8\n";
const NETDEV: &str = "Inter-| Receive | Transmit\n face |bytes packets\n\
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\neth0: 500 5 0 0 0 0 0 0 70 7 0 0 0 0 0 0\n\
    veth1: 400 4 0 0 0 0 0 0 60 6 0 0 0 0 0 0\n";

fn host_tree() -> tempfile::TempDir {
    let root = tree(&[
        ("proc/stat", STAT),
        ("proc/meminfo", MEMINFO),
        ("proc/diskstats", DISKSTATS),
        ("proc/net/dev", NETDEV),
        ("proc/pressure/cpu", "some avg10=1.00 avg60=0.10 avg300=0.00 total=5000\n"),
        (
            "proc/pressure/memory",
            "some avg10=0 avg60=0 avg300=0 total=60\nfull avg10=0 avg60=0 avg300=0 total=50\n",
        ),
        (
            "proc/pressure/io",
            "some avg10=0 avg60=0 avg300=0 total=80\nfull avg10=0 avg60=0 avg300=0 total=70\n",
        ),
        ("sys/class/net/eth0/speed", "1000\n"),
        ("sys/class/net/eth0/device/vendor", ""),
    ]);
    fs::create_dir_all(root.path().join("sys/block")).unwrap();
    symlink("../devices/pci0/block/sda", root.path().join("sys/block/sda")).unwrap();
    symlink("../devices/virtual/block/dm-0", root.path().join("sys/block/dm-0")).unwrap();
    root
}

fn at(root: &tempfile::TempDir) -> Sampler {
    Sampler::at(root.path().join("proc"), root.path().join("sys"))
}

#[test]
fn the_host_is_read_from_its_files() {
    let sample = at(&host_tree()).host().unwrap();
    let hertz = procfs::ticks_per_second() as f64;
    assert_eq!(sample.cpus, 2);
    assert_eq!(sample.cpu_busy, Span::from_s(1_385.0 / hertz));
    assert_eq!(sample.cpu_idle, Span::from_s(8_200.0 / hertz));
    assert_eq!((sample.memory_total_bytes, sample.memory_available_bytes), (1_024_000, 614_400));
    // The disk, not its partition and not the volume on it.
    assert_eq!((sample.disk_read_bytes, sample.disk_write_bytes), (51_200, 102_400));
    assert_eq!(sample.disk_busy, [("sda".to_owned(), Span::from_secs(7))]);
    // The card, not loopback and not a container's end.
    assert_eq!((sample.net_receive_bytes, sample.net_send_bytes), (500, 70));
    assert_eq!(sample.net_speed_bytes_per_s, Some(125e6));
    let pressure = sample.pressure.unwrap();
    assert_eq!((pressure.cpu_some, pressure.io_full), (Span::from_ms(5), Span::from_us(70)));
    assert!(sample.own_cpu > Span::ZERO && sample.own_peak_memory_bytes > 1 << 20);
}

#[test]
fn what_a_kernel_does_not_have_is_absent() {
    let root = tree(&[("proc/stat", STAT), ("proc/meminfo", MEMINFO)]);
    let sample = at(&root).host().unwrap();
    assert_eq!((sample.pressure, sample.net_speed_bytes_per_s), (None, None));
    assert!(sample.disk_busy.is_empty());
}

#[test]
fn a_missing_file_is_named() {
    let root = tree(&[("proc/stat", STAT)]);
    let error = at(&root).host().unwrap_err().to_string();
    assert!(error.starts_with("read ") && error.contains("/proc/meminfo: No such file"), "{error}");
    fs::write(root.path().join("proc/meminfo"), "MemTotal: 5 kB\n").unwrap();
    let error = at(&root).host().unwrap_err().to_string();
    assert!(error.ends_with("it has no line `MemAvailable:`"), "{error}");
}

#[test]
fn this_machine_can_be_sampled() {
    let mut sampler = Sampler::default();
    let (a, b) = (sampler.host().unwrap(), sampler.host().unwrap());
    assert!(b.cpu_busy >= a.cpu_busy && b.memory_available_bytes <= b.memory_total_bytes);
    assert!(thread_cpu() > Span::ZERO);
    assert!(utc_offset_s(Time::from_s(1_795_529_280.0)).abs() <= 14 * 3_600);
}

fn cgroup_tree() -> tempfile::TempDir {
    tree(&[
        ("g/cpu.stat", "usage_usec 500000\nuser_usec 400000\nsystem_usec 100000\n"),
        ("g/memory.current", "300000000\n"),
        ("g/memory.peak", "330000000\n"),
        ("g/memory.stat", "anon 190000000\nfile 100000000\nkernel 1\nshmem 10000000\nfile_mapped 5\n"),
        (
            "g/io.stat",
            "8:0 rbytes=1000 wbytes=67108864 rios=1 wios=9 dbytes=0 dios=0\n253:0 rbytes=1000 wbytes=67108864 rios=1 wios=9 dbytes=0 dios=0\n",
        ),
        ("g/cgroup.procs", "12\n13\n"),
    ])
}

#[test]
fn a_control_group_is_read_without_page_cache() {
    let root = cgroup_tree();
    fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
    symlink("../../devices/pci0/block/sda", root.path().join("sys/dev/block/8:0")).unwrap();
    symlink("../../devices/virtual/block/dm-0", root.path().join("sys/dev/block/253:0")).unwrap();
    let sample = at(&root).cgroup(&root.path().join("g")).unwrap();
    assert_eq!(sample.cpu, Span::from_ms(500));
    assert_eq!((sample.memory_bytes, sample.peak_memory_bytes), (210_000_000, 240_000_000));
    assert_eq!((sample.read_bytes, sample.write_bytes), (Some(1_000), Some(67_108_864)));
    assert_eq!(sample.processes, 2);
}

#[test]
fn controllers_that_are_off_leave_their_figures_out() {
    let root = tree(&[("g/cpu.stat", "usage_usec 7\n"), ("bad/cpu.stat", "nothing 1\n")]);
    let sample = at(&root).cgroup(&root.path().join("g")).unwrap();
    assert_eq!(
        sample,
        crate::monitor::counters::GroupSample {
            cpu: Span::from_us(7),
            ..crate::monitor::counters::GroupSample::default()
        }
    );
    let error = at(&root).cgroup(&root.path().join("bad")).unwrap_err().to_string();
    assert!(error.ends_with("bad/cpu.stat: it has no line `usage_usec`"), "{error}");
    assert!(is_gone(&root.path().join("none")) && !is_gone(&root.path().join("g")));
}

#[test]
fn the_real_control_group_has_a_cpu_stat_where_it_is_mounted() {
    for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let folder = Path::new(folder);
        if folder.join("cpu.stat").exists() {
            let sample = Sampler::default().cgroup(folder).unwrap();
            assert!(sample.cpu > Span::ZERO);
        }
    }
}

/// The known child: only when started by the test below does it do anything.
#[test]
fn known_child() {
    let Ok(scratch) = std::env::var("FORESTAGE_TEST_KNOWN_CHILD") else { return };
    let memory = vec![1_u8; 200 << 20];
    let mut file = fs::File::create(Path::new(&scratch).join("written")).unwrap();
    for chunk in memory[..64 << 20].chunks(1 << 20) {
        file.write_all(chunk).unwrap();
    }
    file.sync_all().unwrap();
    let mut sum = 0_u64;
    while thread_cpu() < Span::from_ms(500) {
        sum = (0..100_000_u64).fold(sum, |s, i| s.wrapping_mul(31).wrapping_add(std::hint::black_box(i)));
    }
    println!("\nREADY {} {}", thread_cpu().as_us(), sum + u64::from(memory[5]));
    let _ = io::stdin().read(&mut [0]);
    drop(std::hint::black_box(memory));
}

/// Starts the known child in a group of its own; returns it and the processor time it says it used.
fn start_known_child(scratch: &Path) -> (Child, Span) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "monitor::sample::tests::known_child", "--nocapture", "--test-threads=1"])
        .env("FORESTAGE_TEST_KNOWN_CHILD", scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let ready = lines.map_while(Result::ok).find_map(|l| l.strip_prefix("READY ").map(str::to_owned));
    let cpu_us = ready.unwrap().split(' ').next().unwrap().parse().unwrap();
    (child, Span::from_us(cpu_us))
}

#[test]
fn a_known_child_is_measured_within_five_percent() {
    // Beside the test binary: the temporary folder may be in memory, where writes are no disk I/O.
    let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let scratch = tempfile::tempdir_in(beside).unwrap();
    let (mut child, cpu) = start_known_child(scratch.path());
    let sampler = Sampler::default();
    let all = sampler.groups(&[child.id(), 1]);
    let sample = all[&child.id()];
    assert_eq!(sampler.pids(&[child.id()]).map(|s| s.processes), Some(1));
    drop(child.stdin.take());
    child.wait().unwrap();
    let close = |found: f64, true_value: f64, what: &str| {
        assert!((found / true_value - 1.0).abs() < 0.05, "{what}: {found}, should be {true_value}");
    };
    close(sample.cpu.as_s(), cpu.as_s().max(0.5), "processor time");
    close(sample.memory_bytes as f64, (200_u64 << 20) as f64, "memory");
    close(sample.write_bytes.unwrap() as f64, (64_u64 << 20) as f64, "bytes written");
    assert_eq!(sampler.groups(&[child.id()]).get(&child.id()), None, "it has ended");
    assert_eq!(sampler.pids(&[child.id()]), None);
}
