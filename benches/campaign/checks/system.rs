//! Parsers of the texts that Linux and the service write.

use std::collections::HashMap;
use std::path::Path;

use crate::parse::{
    Receipt, Stat, busy_ticks, file_system, listens_on, metric, metric_with, nats_listens_on, number_of,
    processor, stat, ticks_per_second, tree_ticks,
};

#[test]
fn a_process_is_read_whatever_its_name_is() {
    let rest = "S 41 42 42 0 -1 4194304 100 0 0 0 7 5 30 20 20 0 9 0 123 456 789";
    let expected = Stat { parent: 41, own: 12, ended_children: 50 };
    for name in ["fanfare", "a b", "a) R 1 (b", "("] {
        assert_eq!(stat(&format!("42 ({name}) {rest}\n")), Some(expected), "{name}");
    }
    assert_eq!(stat("42 (short) S 41"), None);
    assert_eq!(stat(""), None);
}

#[test]
fn this_process_can_be_read() {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    assert_eq!(stat(&text).unwrap().parent, std::os::unix::process::parent_id());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(number_of(&status, "VmHWM").unwrap() > 100);
    assert_eq!(ticks_per_second(&std::fs::read("/proc/self/auxv").unwrap()), Some(100));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert_eq!(file_system(&mounts, Path::new("/proc/self")), Some("proc"));
}

#[test]
fn a_tree_is_all_that_descends_from_its_root_and_nothing_else() {
    let of = |parent, own, ended_children| Stat { parent, own, ended_children };
    let processes = HashMap::from([
        (1, of(0, 1000, 1000)),
        (10, of(1, 1, 2)),
        (11, of(10, 4, 0)),
        (12, of(11, 8, 16)),
        (20, of(1, 1000, 1000)),
    ]);
    assert_eq!(tree_ticks(10, &processes), 31);
    assert_eq!(tree_ticks(12, &processes), 24);
    assert_eq!(tree_ticks(99, &processes), 0);
    // a process that got the number of its own grandparent, between two reads
    assert_eq!(tree_ticks(1, &HashMap::from([(1, of(2, 1, 0)), (2, of(1, 2, 0))])), 3);
}

#[test]
fn processors_are_busy_with_all_that_is_neither_idle_nor_waiting_for_a_disk() {
    let text = "cpu  1 2 4 1000 2000 8 16 32 4000 8000\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
    assert_eq!(busy_ticks(text), Some(63));
    assert_eq!(busy_ticks("cpu  1 2\n"), None);
    assert_eq!(busy_ticks(""), None);
    assert!(busy_ticks(&std::fs::read_to_string("/proc/stat").unwrap()).unwrap() > 0);
}

#[test]
fn a_number_is_found_by_its_whole_name() {
    let status = "VmHWMX:\t 1 kB\nVmHWM:\t  4321 kB\nVmRSS:\t 17 kB\n";
    assert_eq!(number_of(status, "VmHWM"), Some(4321));
    assert_eq!(number_of(status, "VmRSS"), Some(17));
    assert_eq!(number_of(status, "VmSwap"), None);
    let io = "read_bytes: 12\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n";
    assert_eq!(number_of(io, "write_bytes"), Some(4096));
}

#[test]
fn a_metric_is_summed_over_its_labels_and_no_other_is_taken_for_it() {
    let text = "# TYPE sent_total counter\nsent_total{channel=\"sms\"} 3\nsent_total{channel=\"push\"} 4\nsent_total_2 9\n";
    assert_eq!((metric(text, "sent_total"), metric(text, "sent")), (7.0, 0.0));
    assert_eq!(metric_with(text, "sent_total", r#"channel="push""#), 4.0);
}

#[test]
fn the_processor_is_named_without_the_space_around_it() {
    assert_eq!(processor("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), Some("Some CPU @ 2 GHz"));
    assert_eq!(processor("Features : fp\n"), None);
}

#[test]
fn a_directory_is_on_the_deepest_mount_above_it() {
    let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/x ext4 rw 0 0\n/dev/c /tmp/x xfs rw 0 0\n";
    assert_eq!(file_system(mounts, Path::new("/var/tmp")), Some("ext4"));
    assert_eq!(file_system(mounts, Path::new("/tmp")), Some("tmpfs"));
    assert_eq!(file_system(mounts, Path::new("/tmp/xy")), Some("tmpfs"));
    assert_eq!(file_system(mounts, Path::new("/tmp/x/y")), Some("xfs"));
    assert_eq!(file_system("", Path::new("/")), None);
}

#[test]
fn a_kernel_that_does_not_tell_its_ticks_is_not_guessed_at() {
    assert_eq!(ticks_per_second(&[0; 32]), None);
    assert_eq!(ticks_per_second(&[]), None);
}

#[test]
fn the_service_says_where_it_listens() {
    let log = "not JSON\n{\"message\":\"migrations applied\"}\n{\"message\":\"fanfare listens\",\"address\":\"127.0.0.1:8083\"}\n{\"mess";
    assert_eq!(listens_on(log).as_deref(), Some("127.0.0.1:8083"));
    assert_eq!(listens_on(""), None);
}

#[test]
fn a_nats_server_that_is_not_ready_has_no_address() {
    let log = "[7] [INF] Listening for client connections on 127.0.0.1:4222\n";
    assert_eq!(nats_listens_on(log), None);
    assert_eq!(
        nats_listens_on(&format!("{log}[7] [INF] Server is ready\n")).as_deref(),
        Some("127.0.0.1:4222")
    );
}

#[test]
fn a_receipt_is_read_from_the_line_that_the_sandbox_writes() {
    let line = r#"{"at_us":1700000000000000,"id":"a","key":"a","phone":79031234567,"outcome":"received"}"#;
    let receipt: Receipt = serde_json::from_str(line).unwrap();
    assert_eq!(receipt, Receipt { at_us: 1_700_000_000_000_000, id: "a".into() });
}
