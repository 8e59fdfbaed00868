//! The plan of a query: which part of its range is read from where. Pure; [`crate::select`] executes it.
//!
//! What there is, by time: *segments* hold every window for as long as raw samples are kept (and a day longer); *blocks* of the
//! raw and minute tiers exist for windows that are compacted, those of the hour tier for days that are rolled. A window that is
//! not compacted, or that was written to since (dirty), is read from its segments, also inside a rolled day.
//!
//! What is taken, of what there is: the coarsest tier whose points fit into the step (its resolution divides it), and where
//! nothing so fine is kept any more, the finest that is. A point of a coarse tier is taken only when all of it lies inside the
//! range; the edges come from a finer tier. Where none exists, the point is taken whole, so that the range is widened to the
//! point's minute or hour.
//!
//! A tier ends where its retention does, whatever the database still holds. The minute in which the raw retention ends, and
//! the hour in which that of the minutes ends, come whole from the coarser tier.

use crate::layout::Layout;
use crate::progress::Progress;
use crate::tier::Tier;
use tidemark_model::DAY_MS;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// How finely a query wants its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Samples, and nothing where they are not kept any more.
    Samples,
    /// The finest there is.
    Finest,
    /// What fits into steps of so many milliseconds.
    Step(i64),
}

impl Want {
    /// The coarsest tier that serves it exactly.
    fn coarsest(self) -> Tier {
        match self {
            Self::Step(step_ms) if step_ms > 0 && step_ms % HOUR_MS == 0 => Tier::Hour,
            Self::Step(step_ms) if step_ms > 0 && step_ms % MINUTE_MS == 0 => Tier::Minute,
            Self::Step(_) | Self::Samples | Self::Finest => Tier::Raw,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first millisecond.
    pub start_ms: i64,
    /// The last millisecond.
    pub end_ms: i64,
    /// How finely.
    pub want: Want,
    /// Whether the increase of counters is computed. That of a point counts from the sample before it, which must lie in the
    /// range too; only a block's first point says what its own first value is. So a coarse tier is entered at the start of a
    /// block, where there is a finer one.
    pub counter: bool,
    /// The time of the query.
    pub now_ms: i64,
}

/// Where a part is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The segments of its windows. For a coarse tier their samples are rolled up as they are read.
    Segments,
    /// The blocks of its tier.
    Blocks,
}

/// A part of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it consists of.
    pub tier: Tier,
    /// Where that is read from.
    pub source: Source,
    /// The first millisecond.
    pub from_ms: i64,
    /// The last millisecond.
    pub to_ms: i64,
}

impl Part {
    /// The first and the last millisecond of all points that the part touches: more than the part itself only where the range
    /// begins or ends inside a point and nothing finer is kept.
    #[must_use]
    pub fn widened(&self) -> (i64, i64) {
        match self.tier.resolution_ms() {
            0 => (self.from_ms, self.to_ms),
            resolution => (floor(self.from_ms, resolution), ceil(self.to_ms + 1, resolution) - 1),
        }
    }
}

/// The parts of a range in order of time, without gap or overlap as far back as anything is kept. `progress` is that of the
/// bucket; without it all windows count as not compacted.
#[must_use]
pub fn plan(range: &Range, layout: &Layout, progress: Option<&Progress>) -> Vec<Part> {
    let mut planner = Planner::new(range, layout, progress);
    let oldest_ms = planner.raw_ms.min(planner.minute_ms).min(planner.hour_ms);
    let mut at = range.start_ms.max(oldest_ms);
    while at <= range.end_ms {
        let hour_ms = floor(at, HOUR_MS);
        let to_ms = range.end_ms.min(hour_ms + HOUR_MS - 1);
        planner.hour(hour_ms, at, to_ms);
        at = hour_ms + HOUR_MS;
    }
    planner.parts
}

struct Planner<'a> {
    range: &'a Range,
    layout: &'a Layout,
    progress: Option<&'a Progress>,
    coarsest: Tier,
    /// From when on each tier serves.
    raw_ms: i64,
    minute_ms: i64,
    hour_ms: i64,
    parts: Vec<Part>,
}

/// What there is of an hour.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Segments.
    Live,
    /// Blocks of the window, perhaps of the day too.
    Settled { rolled: bool },
}

impl<'a> Planner<'a> {
    fn new(range: &'a Range, layout: &'a Layout, progress: Option<&'a Progress>) -> Self {
        let oldest = |tier| range.now_ms.saturating_sub(layout.retention.of(tier));
        let (mut raw_ms, mut minute_ms) = (oldest(Tier::Raw), ceil(oldest(Tier::Minute), MINUTE_MS));
        let mut hour_ms = ceil(oldest(Tier::Hour), HOUR_MS);
        if range.want == Want::Samples {
            (minute_ms, hour_ms) = (i64::MAX, i64::MAX);
        }
        // What a retention cuts in two comes from the tier that still has all of it.
        if hour_ms <= floor(minute_ms, HOUR_MS) {
            minute_ms = ceil(minute_ms, HOUR_MS);
        }
        if minute_ms <= floor(raw_ms, MINUTE_MS) {
            raw_ms = ceil(raw_ms, MINUTE_MS);
        }
        Self {
            range,
            layout,
            progress,
            coarsest: range.want.coarsest(),
            raw_ms,
            minute_ms,
            hour_ms,
            parts: Vec::new(),
        }
    }

    fn state(&self, at: i64) -> State {
        let window = self.layout.window.of(at);
        let Some(progress) = self.progress else {
            return State::Live;
        };
        let was_compacted = progress
            .compacted_before_ms
            .is_some_and(|before| window.start_ms < before);
        // Segments that have expired cannot be asked for what came late: the blocks are all there is.
        let gone = self.layout.segment_expires_at_s(window) <= self.range.now_ms / 1_000;
        let settled = progress.is_compacted(window) || (was_compacted && gone);
        if settled && !self.layout.is_open(window, self.range.now_ms) {
            State::Settled {
                rolled: progress.is_rolled(floor(at, DAY_MS)),
            }
        } else {
            State::Live
        }
    }

    /// Plans what the range has of an hour: `from..=to`.
    fn hour(&mut self, hour_ms: i64, from: i64, to: i64) {
        let state = self.state(hour_ms);
        let has_hour = state == State::Settled { rolled: true } && hour_ms >= self.hour_ms;
        let has_finer = from >= self.raw_ms.min(self.minute_ms);
        let is_whole = from == hour_ms && to == hour_ms + HOUR_MS - 1;
        let fits = self.coarsest == Tier::Hour && is_whole && self.may_enter(Tier::Hour, from);
        if has_hour && (fits || !has_finer) {
            self.push(Tier::Hour, Source::Blocks, from, to);
            return;
        }
        let mut at = from;
        for border in [self.raw_ms.min(self.minute_ms), self.raw_ms.max(self.minute_ms)] {
            if at < border && border <= to {
                self.piece(state, at, border - 1);
                at = border;
            }
        }
        self.piece(state, at, to);
    }

    /// Plans a piece of an hour inside which no retention ends, from samples or minutes.
    fn piece(&mut self, state: State, from: i64, to: i64) {
        let source = match state {
            State::Live => Source::Segments,
            State::Settled { .. } => Source::Blocks,
        };
        match (from >= self.raw_ms, from >= self.minute_ms) {
            (false, false) => {}
            (false, true) => self.push(Tier::Minute, source, from, to),
            (true, true) if source == Source::Blocks && self.coarsest >= Tier::Minute => {
                let (first, after) = (ceil(from, MINUTE_MS), floor(to + 1, MINUTE_MS));
                if first >= after || !self.may_enter(Tier::Minute, first) {
                    self.push(Tier::Raw, source, from, to);
                    return;
                }
                self.push(Tier::Raw, source, from, first - 1);
                self.push(Tier::Minute, source, first, after - 1);
                self.push(Tier::Raw, source, after, to);
            }
            (true, _) => self.push(Tier::Raw, source, from, to),
        }
    }

    /// Whether a coarse tier may serve from a time on: always, unless for counters (see [`Range::counter`]).
    fn may_enter(&self, tier: Tier, from: i64) -> bool {
        let goes_on = self
            .parts
            .last()
            .is_some_and(|last| last.tier >= tier && last.source == Source::Blocks && last.to_ms + 1 == from);
        !self.range.counter || goes_on || tier.block_start_ms(self.layout.window, from) == from
    }

    fn push(&mut self, tier: Tier, source: Source, from_ms: i64, to_ms: i64) {
        if from_ms > to_ms {
            return;
        }
        if let Some(last) = self.parts.last_mut()
            && (last.tier, last.source, last.to_ms + 1) == (tier, source, from_ms)
        {
            last.to_ms = to_ms;
            return;
        }
        self.parts.push(Part {
            tier,
            source,
            from_ms,
            to_ms,
        });
    }
}

fn floor(at: i64, resolution_ms: i64) -> i64 {
    at.saturating_sub(at.rem_euclid(resolution_ms))
}

fn ceil(at: i64, resolution_ms: i64) -> i64 {
    floor(at.saturating_add(resolution_ms - 1), resolution_ms)
}

#[cfg(test)]
mod tests;
