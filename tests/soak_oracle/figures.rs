//! That memory that grows is told from noise, and whose latency counts.

use std::time::Duration;

use jiff::SignedDuration;

use crate::{
    at, disturbed, good,
    latency::{Latency, Probe, Spell, latencies, percentile},
    memory::{Sample, Slope, after_warming_up},
    observed::{Run, What},
};

/// Two hours of samples, every five seconds, with what a sawtooth of `noise` MiB adds.
fn samples(per_hour: f64, noise: f64) -> Vec<Sample> {
    let sample = |number: u32| {
        let at = Duration::from_secs(u64::from(number) * 5);
        Sample {
            at,
            mib: 60.0 + per_hour * at.as_secs_f64() / 3600.0 + noise * f64::from(number * 7 % 13) / 13.0,
        }
    };
    (0..1440).map(sample).collect()
}

#[test]
fn growth_is_told_from_noise() {
    for (per_hour, noise, grows) in
        [(0.0, 4.0, false), (0.5, 4.0, false), (3.0, 4.0, true), (1.5, 0.0, true), (-5.0, 4.0, false)]
    {
        let slope = Slope::of(&samples(per_hour, noise)).unwrap();
        assert!((slope.per_hour - per_hour).abs() < 0.2, "{slope:?}");
        assert_eq!(slope.grows(), grows, "{slope:?}");
    }
    assert_eq!(Slope::of(&samples(0.0, 0.0)[..11]), None);
    let late = after_warming_up(&samples(0.0, 0.0), Duration::from_hours(1));
    assert_eq!((late.len(), late[0].at), (540, Duration::from_mins(75)));
}

#[test]
fn only_undisturbed_data_planes_are_measured_and_by_what_was_wrong_with_others() {
    let mut seen = good();
    seen.made[0].at = at(10) + SignedDuration::from_millis(150);
    let probes = [Probe { name: "nightly".to_owned(), at: at(10) }];
    let spell = |from, until| Spell { fault: "hang".to_owned(), from: at(from), until: at(until) };
    seen.disturbances.push(disturbed(What::Fault, "b", 5, Some(30)));
    let one = |class: &str| {
        let (class, probe, plane) = (class.to_owned(), "nightly".to_owned(), "a".to_owned());
        [Latency { class, probe, plane, took: 150.0 }]
    };
    assert_eq!(latencies(&seen, &probes, &[], &[]), one(""));
    let hung = one("hung");
    assert_eq!(latencies(&seen, &probes, &[spell(5, 30)], &[]), hung);
    let none: [Latency; 0] = [];
    assert_eq!(latencies(&seen, &probes, &[spell(10, 30)], &[(at(9), at(11))]), none, "nobody was there");
    seen.made[0].at = at(12);
    assert_eq!(latencies(&seen, &probes, &[spell(11, 30)], &[]), none, "it began in the middle");
    let mut purge = Run { kind: "FleetTask".to_owned(), ..seen.runs[0].clone() };
    purge.entries.iter_mut().for_each(|part| part.finished = Some(at(11)));
    seen.runs.push(purge);
    assert_eq!(latencies(&seen, &probes, &[], &[]), none, "it had to wait for a purge");
}

#[test]
fn of_a_hundred_values_one_is_above_the_p99() {
    let values: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!(
        (percentile(&values, 99), percentile(&values, 50), percentile(&[], 99)),
        (Some(99.0), Some(50.0), None)
    );
}
