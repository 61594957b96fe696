//! Plain measurements for docs/performance.md: what an idle connection holds, what a core serves.

pub mod https_rate;
pub mod idle_imap;

use anyhow::Context as _;

/// Resident memory of a process, KiB.
fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")
}

/// Memory of a process with its share of what it shares with others (PSS), KiB.
pub(crate) fn proportional_kib(pid: u32) -> anyhow::Result<u64> {
    let rollup = format!("/proc/{pid}/smaps_rollup");
    let text =
        std::fs::read_to_string(&rollup).with_context(|| format!("{rollup}: it takes root for some processes"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    line.trim().trim_end_matches("kB").trim().parse().context("Pss")
}

/// Processor time of a process and all its threads, seconds.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name in brackets may hold spaces; utime and stime are the 12th and 13th fields after it (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// USER_HZ is 100 wherever Linux tells it to programs.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        let me = std::process::id();
        assert!(resident_kib(me).unwrap() > 100);
        assert!(proportional_kib(me).unwrap() > 100);
        assert!(cpu_seconds(me).unwrap() >= 0.0);
        assert!(resident_kib(u32::MAX).is_err());
    }
}
