//! What is shown of a migration under way. It never runs backwards: phase and
//! part done only rise, what remains only falls.

use std::time::Duration;

use api::body::AttemptView;
use types::{AttemptPhase, Bytes, Progress};

use crate::span;

/// No more than this part of the rate is taken for dirtying, so that estimates
/// of a guest that outruns its link stay finite.
const MOST_DIRTYING: f64 = 0.9;

/// What has been shown so far.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    phase: Option<AttemptPhase>,
    /// Hundredths of the work that are done; 100 only at the end.
    percent: u64,
    /// Bytes still to be handled, dirtying included.
    remaining: Option<u64>,
    rounds: u64,
    round_began: Duration,
}

impl Shown {
    /// The phase shown now.
    pub(crate) fn phase(&self) -> Option<AttemptPhase> {
        self.phase
    }

    /// Takes in what was seen `elapsed` after the start, and gives the line to show.
    pub(crate) fn line(&mut self, view: &AttemptView, elapsed: Duration) -> String {
        let phase = self.phase.map_or(view.phase, |shown| shown.max(view.phase));
        self.phase = Some(phase);
        let mut line = format!("{phase:10}");
        let copying = phase == AttemptPhase::Copying;
        if let Some(progress) = &view.progress
            && copying
        {
            line += &self.copying(progress, elapsed);
        } else if copying && let Some(remaining) = self.remaining {
            line += &format!(" {:3}%  {} remaining", self.percent, Bytes(remaining));
        } else if phase > AttemptPhase::Copying {
            line += &format!(" {} -> {}", view.report.from, view.report.to);
        }
        line.trim_end().to_owned()
    }

    fn copying(&mut self, progress: &Progress, elapsed: Duration) -> String {
        if progress.rounds > self.rounds {
            self.rounds = progress.rounds;
            self.round_began = elapsed;
        }
        let left = self.left(progress, elapsed);
        let remaining = self.remaining.map_or(left, |shown| shown.min(left));
        self.remaining = Some(remaining);
        let whole = progress.done_bytes.saturating_add(left).max(1);
        let percent = u128::from(progress.done_bytes) * 100 / u128::from(whole);
        self.percent = self.percent.max(u64::try_from(percent).unwrap_or(99).min(99));
        let mut text = format!(
            " {:3}%  {} remaining, {}/s, dirtied {}/s",
            self.percent,
            Bytes(remaining),
            Bytes(progress.rate_bytes_per_second),
            Bytes(progress.dirty_bytes_per_second),
        );
        match progress.expected_seconds {
            Some(seconds) if seconds.is_finite() => {
                text += &format!(", end in {}", span::show(seconds));
            }
            _ if progress.rate_bytes_per_second > 0
                && progress.dirty_bytes_per_second >= progress.rate_bytes_per_second =>
            {
                text += ", no end in sight";
            }
            _ => {}
        }
        text
    }

    /// Bytes still to be handled: this round's, what the guest dirties meanwhile,
    /// and what it has dirtied since the round began.
    fn left(&self, progress: &Progress, elapsed: Duration) -> u64 {
        let rate = progress.rate_bytes_per_second as f64;
        let dirty = progress.dirty_bytes_per_second as f64;
        let share = if rate > 0.0 { (dirty / rate).min(MOST_DIRTYING) } else { 0.0 };
        let since = elapsed.saturating_sub(self.round_began).as_secs_f64();
        let dirtied = (dirty * since).min(progress.total_bytes as f64);
        // Saturates, as a conversion from floating point does.
        (progress.remaining_bytes as f64 / (1.0 - share) + dirtied) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::MigrationReport;

    fn view(phase: AttemptPhase, progress: Option<Progress>) -> AttemptView {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let (vm, from, to) = ("web01", "host-a", "host-b");
        let (vm, from, to) = (vm.parse().unwrap(), from.parse().unwrap(), to.parse().unwrap());
        AttemptView { phase, progress, report: MigrationReport::begun(id, vm, from, to, 2 << 30) }
    }

    fn copying(rounds: u64, done_mib: u64, remaining_mib: u64) -> AttemptView {
        let progress = Progress {
            remaining_bytes: remaining_mib << 20,
            done_bytes: done_mib << 20,
            total_bytes: 2 << 30,
            rate_bytes_per_second: 100 << 20,
            dirty_bytes_per_second: 10 << 20,
            rounds,
            sent_bytes: done_mib << 20,
            expected_seconds: Some(9.0),
        };
        view(AttemptPhase::Copying, Some(progress))
    }

    #[test]
    fn a_line_says_it_all() {
        let mut shown = Shown::default();
        let first = shown.line(&view(AttemptPhase::Preparing, None), Duration::from_millis(300));
        assert_eq!(first, "preparing");
        let line = shown.line(&copying(1, 1024, 1024), Duration::ZERO);
        assert_eq!(
            line,
            "copying     47%  1.1 GiB remaining, 100.0 MiB/s, dirtied 10.0 MiB/s, \
             end in 9.0 s"
        );
        let last = shown.line(&view(AttemptPhase::Switching, None), Duration::from_secs(12));
        assert_eq!(last, "switching  host-a -> host-b");
    }

    #[test]
    fn nothing_runs_backwards() {
        let mut shown = Shown::default();
        let mut last = (AttemptPhase::Preparing, 0, u64::MAX);
        // Rounds begin anew, an agent restarts and counts from zero, a phase comes late.
        let seen = [
            copying(1, 0, 2048),
            copying(1, 1024, 1024),
            copying(1, 2048, 0),
            copying(2, 2048, 300),
            copying(2, 2248, 100),
            copying(0, 0, 2048),
            view(AttemptPhase::Copying, None),
            view(AttemptPhase::Preparing, None),
            copying(3, 2400, 40),
            view(AttemptPhase::Activating, None),
            copying(3, 2400, 40),
        ];
        for (second, view) in (0..).zip(&seen) {
            shown.line(view, Duration::from_secs(second * 10));
            let now = (shown.phase.unwrap(), shown.percent, shown.remaining.unwrap());
            assert!(now.0 >= last.0 && now.1 >= last.1 && now.2 <= last.2, "{last:?} {now:?}");
            assert!(now.1 < 100);
            last = now;
        }
        assert_eq!(last.0, AttemptPhase::Activating);
    }

    #[test]
    fn wild_numbers_do_no_harm() {
        let mut shown = Shown::default();
        let wild = Progress {
            remaining_bytes: u64::MAX,
            done_bytes: u64::MAX,
            total_bytes: u64::MAX,
            rate_bytes_per_second: 1,
            dirty_bytes_per_second: u64::MAX,
            rounds: u64::MAX,
            sent_bytes: u64::MAX,
            expected_seconds: Some(f64::NAN),
        };
        let line = shown.line(&view(AttemptPhase::Copying, Some(wild)), Duration::MAX);
        assert!(line.ends_with("no end in sight"), "{line}");
    }
}
