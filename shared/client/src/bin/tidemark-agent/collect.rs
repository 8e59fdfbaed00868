//! Reads this machine. The names and their units are listed in the crate's README.

use std::collections::BTreeSet;
use sysinfo::{CpuRefreshKind, DiskRefreshKind, Disks, Error, MemoryRefreshKind, Networks, RefreshKind, System};
use tidemark_client::Metric;

pub(crate) struct Collector {
    system: System,
    disks: Disks,
    networks: Networks,
    per_core: bool,
}

fn system_refresh() -> RefreshKind {
    RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_usage())
        .with_memory(MemoryRefreshKind::nothing().with_ram().with_swap())
}

fn disk_refresh() -> DiskRefreshKind {
    DiskRefreshKind::nothing().with_storage().with_io_usage()
}

impl Collector {
    /// Takes the first CPU reading; the second one, in `collect`, makes the difference.
    pub(crate) fn new(per_core: bool) -> Result<Self, Error> {
        Ok(Self {
            system: System::new_with_specifics(system_refresh())?,
            disks: Disks::new_with_refreshed_list_specifics(disk_refresh())?,
            networks: Networks::new_with_refreshed_list()?,
            per_core,
        })
    }

    /// One round of samples.
    pub(crate) fn collect(&mut self) -> Vec<Metric> {
        self.system.refresh_specifics(system_refresh());
        self.disks.refresh_specifics(true, disk_refresh());
        self.networks.refresh(true);
        let mut metrics = Vec::with_capacity(64);
        self.cpu(&mut metrics);
        self.memory(&mut metrics);
        self.disks(&mut metrics);
        self.networks(&mut metrics);
        if let Ok(uptime) = System::uptime() {
            metrics.push(Metric::new("uptime_seconds", uptime as f64));
        }
        metrics
    }

    fn cpu(&self, metrics: &mut Vec<Metric>) {
        metrics.push(Metric::new(
            "cpu_usage_percent",
            percent(self.system.global_cpu_usage()),
        ));
        metrics.push(Metric::new("cpu_cores", self.system.cpus().len() as f64));
        if self.per_core {
            for (core, cpu) in self.system.cpus().iter().enumerate() {
                let metric = Metric::new("cpu_core_usage_percent", percent(cpu.usage()));
                metrics.push(metric.label("core", core.to_string()));
            }
        }
        if let Ok(load) = System::load_average() {
            metrics.push(Metric::new("load_average_1m", load.one));
            metrics.push(Metric::new("load_average_5m", load.five));
            metrics.push(Metric::new("load_average_15m", load.fifteen));
        }
    }

    fn memory(&self, metrics: &mut Vec<Metric>) {
        let (total, used) = (self.system.total_memory(), self.system.used_memory());
        metrics.push(Metric::new("memory_total_bytes", total as f64));
        metrics.push(Metric::new("memory_used_bytes", used as f64));
        metrics.push(Metric::new(
            "memory_available_bytes",
            self.system.available_memory() as f64,
        ));
        if total > 0 {
            metrics.push(Metric::new("memory_usage_percent", share(used, total)));
        }
        metrics.push(Metric::new("swap_total_bytes", self.system.total_swap() as f64));
        metrics.push(Metric::new("swap_used_bytes", self.system.used_swap() as f64));
    }

    fn disks(&self, metrics: &mut Vec<Metric>) {
        // A path that is mounted over is listed twice; the kernel shows only the last one.
        let mut seen = BTreeSet::new();
        for disk in self.disks.iter().rev() {
            if disk.total_space() == 0 || !seen.insert(disk.mount_point()) {
                continue;
            }
            let series = |name: &str, value: f64| {
                Metric::new(name, value)
                    .label("mount", disk.mount_point().to_string_lossy())
                    .label("device", disk.name().to_string_lossy())
                    .label("filesystem", disk.file_system().to_string_lossy())
            };
            let (total, available) = (disk.total_space(), disk.available_space());
            metrics.push(series("disk_total_bytes", total as f64));
            metrics.push(series("disk_available_bytes", available as f64));
            metrics.push(series(
                "disk_usage_percent",
                share(total.saturating_sub(available), total),
            ));
            let io = disk.usage();
            metrics.push(series("disk_read_bytes_total", io.total_read_bytes as f64));
            metrics.push(series("disk_written_bytes_total", io.total_written_bytes as f64));
        }
    }

    fn networks(&self, metrics: &mut Vec<Metric>) {
        for (interface, data) in &self.networks {
            for (name, value) in [
                ("network_receive_bytes_total", data.total_received()),
                ("network_transmit_bytes_total", data.total_transmitted()),
                ("network_receive_packets_total", data.total_packets_received()),
                ("network_transmit_packets_total", data.total_packets_transmitted()),
                ("network_receive_errors_total", data.total_errors_on_received()),
                ("network_transmit_errors_total", data.total_errors_on_transmitted()),
            ] {
                metrics.push(Metric::new(name, value as f64).label("interface", interface.to_string_lossy()));
            }
        }
    }
}

/// Two decimals: the rest is noise of the measurement, and would cost storage with every sample.
fn percent(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

fn share(part: u64, whole: u64) -> f64 {
    percent((part as f64 / whole as f64 * 100.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let mut collector = Collector::new(true).unwrap();
        std::thread::scope(|s| {
            // Some work, so that the CPU has something to show.
            s.spawn(|| (0..20_000_000_u64).fold(0, |a: u64, b| std::hint::black_box(a ^ b)));
        });
        let metrics = collector.collect();
        let value = |name: &str| {
            metrics
                .iter()
                .find(|m| m.name == name)
                .unwrap_or_else(|| panic!("{name}"))
                .value
        };
        assert!((0.0..=100.0).contains(&value("cpu_usage_percent")));
        assert_eq!(
            value("cpu_cores"),
            metrics.iter().filter(|m| m.name == "cpu_core_usage_percent").count() as f64
        );
        assert!(value("memory_used_bytes") > 0.0 && value("memory_used_bytes") < value("memory_total_bytes"));
        assert!((0.0..=100.0).contains(&value("memory_usage_percent")));
        assert!(value("uptime_seconds") > 0.0);
        assert!(
            metrics
                .iter()
                .any(|m| m.name == "network_receive_bytes_total" && m.labels["interface"] == "lo")
        );
        assert!(metrics.iter().all(|m| m.value.is_finite()), "{metrics:?}");
    }

    #[test]
    fn no_series_is_sent_twice_in_a_round() {
        let metrics = Collector::new(true).unwrap().collect();
        let series: BTreeSet<_> = metrics.iter().map(|m| (&m.name, &m.labels)).collect();
        assert_eq!(series.len(), metrics.len());
    }

    #[test]
    fn percentages_are_rounded_to_two_decimals() {
        assert_eq!(percent(12.345_678), 12.35);
        assert_eq!(share(1, 3), 33.33);
    }
}
