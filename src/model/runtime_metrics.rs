//! The lines of `log-runtime-metrics`: a dyno's load and memory, as Heroku writes them.
//!
//! Called by the supervisor, which measures. What a host cannot tell is left out of the line, instead of being 0.

use std::fmt::Write;
use std::time::Duration;

/// Over which times the load is averaged, in seconds, and what the line calls these.
const AVERAGES: [(&str, f64); 3] = [("1m", 60.0), ("5m", 300.0), ("15m", 900.0)];

/// The number of threads of a dyno that run or could run, averaged as the kernel does it for a host: what was is worth less,
/// exponentially, the longer ago it was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LoadAverages([f64; 3]);

impl LoadAverages {
    /// Takes in that so many threads were found running, `since` the last look.
    pub fn add(&mut self, running: u32, since: Duration) {
        for (average, (_, over)) in self.0.iter_mut().zip(AVERAGES) {
            let kept = (-since.as_secs_f64() / over).exp();
            *average = *average * kept + f64::from(running) * (1.0 - kept);
        }
    }
}

/// What a dyno has in memory, in bytes; None where the host does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemorySample {
    /// What its processes have for themselves or share with each other.
    pub resident: u64,
    /// What of theirs is swapped out.
    pub swap: u64,
    /// What the kernel keeps of files on disks for it.
    pub cache: Option<u64>,
    /// Pages that were read in, and written out or given up.
    pub paged: Option<(u64, u64)>,
    /// Its quota.
    pub quota: u64,
}

/// Which dyno a line is about.
#[derive(Debug, Clone, Copy)]
pub struct MetricsSource<'a> {
    /// Its name, `web.1`.
    pub name: &'a str,
    /// Its id, a uuid.
    pub dyno: &'a str,
    /// Its app's id, a uuid.
    pub app: &'a str,
}

impl MetricsSource<'_> {
    /// `source=web.1 dyno=heroku.NUMBER.UUID`. Heroku's number of an app is made of its id here.
    fn begin(self) -> String {
        let digits = self.app.get(..8).unwrap_or_default();
        let number = u32::from_str_radix(digits, 16).unwrap_or(0);
        format!("source={} dyno=heroku.{number}.{}", self.name, self.dyno)
    }

    /// The line of its load.
    pub fn load(self, load: LoadAverages) -> String {
        let mut line = self.begin();
        for ((name, _), average) in AVERAGES.iter().zip(load.0) {
            let _ = write!(line, " sample#load_avg_{name}={average:.2}");
        }
        line
    }

    /// The line of its memory.
    pub fn memory(self, memory: MemorySample) -> String {
        let mut line = self.begin();
        let mut megabytes = |name: &str, bytes: u64| {
            let mib = bytes as f64 / f64::from(1 << 20);
            let _ = write!(line, " sample#memory_{name}={mib:.2}MB");
        };
        let MemorySample {
            resident,
            swap,
            cache,
            paged,
            quota,
        } = memory;
        megabytes("total", resident + cache.unwrap_or(0) + swap);
        megabytes("rss", resident);
        if let Some(cache) = cache {
            megabytes("cache", cache);
        }
        megabytes("swap", swap);
        if let Some((read, written)) = paged {
            let _ = write!(
                line,
                " sample#memory_pgpgin={read}pages sample#memory_pgpgout={written}pages"
            );
        }
        let quota = quota as f64 / f64::from(1 << 20);
        let _ = write!(line, " sample#memory_quota={quota:.2}MB");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: MetricsSource<'static> = MetricsSource {
        name: "web.1",
        dyno: "d97d0ea7-cf3d-411b-b453-d2943a50b456",
        app: "002adb0e-0000-4000-8000-000000000000",
    };

    #[test]
    fn the_load_comes_near_to_what_runs_and_the_longer_average_later() {
        let mut load = LoadAverages::default();
        for _ in 0..12 {
            load.add(2, Duration::from_secs(5));
        }
        assert_eq!(
            SOURCE.load(load),
            "source=web.1 dyno=heroku.2808590.d97d0ea7-cf3d-411b-b453-d2943a50b456 \
             sample#load_avg_1m=1.26 sample#load_avg_5m=0.36 sample#load_avg_15m=0.13"
        );
        // How often one looks does not matter.
        let mut once = LoadAverages::default();
        once.add(2, Duration::from_secs(60));
        assert_eq!(SOURCE.load(once), SOURCE.load(load));
    }

    #[test]
    fn memory_is_in_megabytes_and_what_is_not_known_is_left_out() {
        let mut memory = MemorySample {
            resident: 21 << 20,
            swap: 1 << 19,
            cache: Some(3 << 20),
            paged: Some((348_836, 343_403)),
            quota: 512 << 20,
        };
        let begin = "source=web.1 dyno=heroku.2808590.d97d0ea7-cf3d-411b-b453-d2943a50b456";
        assert_eq!(
            SOURCE.memory(memory),
            format!(
                "{begin} sample#memory_total=24.50MB sample#memory_rss=21.00MB \
                 sample#memory_cache=3.00MB sample#memory_swap=0.50MB \
                 sample#memory_pgpgin=348836pages sample#memory_pgpgout=343403pages \
                 sample#memory_quota=512.00MB"
            )
        );
        (memory.cache, memory.paged) = (None, None);
        assert_eq!(
            SOURCE.memory(memory),
            format!(
                "{begin} sample#memory_total=21.50MB sample#memory_rss=21.00MB \
                 sample#memory_swap=0.50MB sample#memory_quota=512.00MB"
            )
        );
    }
}
