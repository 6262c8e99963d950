//! What everything here shares: progress, and small figures about processes and this machine.

use std::{fs, io::Write as _, time::Duration};

use crate::harness::Result;

/// Progress, on standard error: figures alone go to standard output.
pub fn say(text: impl AsRef<str>) {
    // A closed standard error is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Pause.
pub async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Processor time a process has used so far, in seconds.
pub fn processor_time(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // Fields after the command, which may itself hold blanks and brackets: utime and stime are 14 and 15.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    // USER_HZ is 100 on every architecture Linux runs Rust on.
    Ok(ticks / 100.0)
}

/// Open sockets of a process.
pub fn sockets(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
}

/// One line about this machine.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kib = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or_default();
    format!(
        "{cores} cores ({}), {:.0} GiB, Linux {}",
        model.trim_start_matches([' ', '\t', ':']).trim(),
        kib / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// Load average of the last minute: above the number of cores, figures are noise.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}
