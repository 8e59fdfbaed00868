//! Passes of compaction: one at a time can change anything, boundaries never move back, and no mark is lost.

use super::{Broken, Scene, same};
use tidemark_model::{Bucket, Window};
use tidemark_tsdb::progress::{Progress, Step};
use tidemark_tsdb::store::Division;
use tidemark_tsdb::{Store, StoreError};

const HOUR_MS: i64 = 3_600_000;

fn window(number: i64) -> Window {
    Window {
        start_ms: number * HOUR_MS,
    }
}

impl<S: Store> Scene<'_, S> {
    /// Begins a pass that must be allowed.
    async fn begin(&self, bucket: Bucket, epoch: u32) -> Result<Progress, Broken> {
        let began = self.store.begin_pass(bucket, epoch, 500).await?;
        began.ok_or_else(|| Broken::Promise(format!("a pass after {epoch} was not allowed")))
    }

    async fn step(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        self.store.advance_progress(bucket, epoch, step).await
    }

    pub(super) async fn passes(&self) -> Result<(), Broken> {
        let bucket = Bucket(0);
        same("no progress", &self.store.progress(bucket).await?, &Progress::default())?;
        same(
            "a pass after one that never was",
            &self.store.begin_pass(bucket, 1, 100).await?,
            &None,
        )?;
        let first = Progress {
            epoch: 1,
            leased_until_ms: 100,
            ..Progress::default()
        };
        same(
            "the first pass",
            &self.store.begin_pass(bucket, 0, 100).await?,
            &Some(first.clone()),
        )?;
        for lease in [100, 200] {
            let again = self.store.begin_pass(bucket, 0, lease).await?;
            same("another first pass, with any lease", &again, &None)?;
        }
        same("the progress", &self.store.progress(bucket).await?, &first)?;
        same(
            "another bucket",
            &self.store.progress(Bucket(1)).await?,
            &Progress::default(),
        )?;
        let second = Progress {
            epoch: 2,
            leased_until_ms: 300,
            ..first
        };
        same(
            "the next pass",
            &self.store.begin_pass(bucket, 1, 300).await?,
            &Some(second),
        )?;
        let close = Step::Close { before_ms: HOUR_MS };
        for epoch in [1, 3] {
            same(
                "a step of another pass",
                &self.step(bucket, epoch, close).await?,
                &false,
            )?;
        }
        let release = Step::Release { forget_before_ms: 0 };
        same("the end of another pass", &self.step(bucket, 1, release).await?, &false)?;
        same("the end of the pass", &self.step(bucket, 2, release).await?, &true)?;
        let ended = self.store.progress(bucket).await?;
        same(
            "the lease is given back",
            &(ended.epoch, ended.leased_until_ms),
            &(2, 0),
        )
    }

    pub(super) async fn boundaries(&self) -> Result<(), Broken> {
        let bucket = Bucket(2);
        self.begin(bucket, 0).await?;
        let standing = async || {
            let progress = self.store.progress(bucket).await?;
            Ok::<_, Broken>([
                progress.closed_before_ms,
                progress.compacted_before_ms,
                progress.rolled_before_ms,
            ])
        };
        same("no boundary", &standing().await?, &[None; 3])?;
        let steps: [fn(i64) -> Step; 3] = [
            |before_ms| Step::Close { before_ms },
            |before_ms| Step::Compacted { before_ms },
            |before_ms| Step::Rolled { before_ms },
        ];
        let mut wanted = [None; 3];
        for (place, step) in steps.into_iter().enumerate() {
            // Before 1970 too; a step back and a repeated one are allowed, and move nothing.
            for (to, stands) in [(-HOUR_MS, -HOUR_MS), (0, 0), (0, 0), (-HOUR_MS, 0), (HOUR_MS, HOUR_MS)] {
                same("a boundary moves", &self.step(bucket, 1, step(to)).await?, &true)?;
                wanted[place] = Some(stands);
                same("the boundaries", &standing().await?, &wanted)?;
            }
        }
        self.begin(bucket, 1).await?;
        for step in steps {
            for to in [0, HOUR_MS, 2 * HOUR_MS] {
                same(
                    "a boundary of the pass before",
                    &self.step(bucket, 1, step(to)).await?,
                    &false,
                )?;
            }
        }
        same("the boundaries", &standing().await?, &wanted)
    }

    pub(super) async fn marks(&self) -> Result<(), Broken> {
        let bucket = Bucket(3);
        // Marks need no pass.
        self.store.mark_dirty(bucket, &[]).await?;
        self.store
            .mark_dirty(bucket, &[window(1), window(-1), window(1)])
            .await?;
        self.store.mark_dirty(bucket, &[window(1)]).await?;
        let marked = Progress {
            dirty: [(window(-1), 1), (window(1), 3)].into(),
            late_marks: 4,
            ..Progress::default()
        };
        same("marks", &self.store.progress(bucket).await?, &marked)?;
        let began = self.begin(bucket, 0).await?;
        same("a pass begins with the marks", &began.dirty, &marked.dirty)?;
        let fold = |window, marks| Step::Folded { window, marks };
        for (epoch, step) in [
            (0, fold(window(1), 3)),
            (2, fold(window(1), 3)),
            (1, fold(window(1), 2)),
            (1, fold(window(2), 0)),
        ] {
            same(
                "a fold of others or of other marks",
                &self.step(bucket, epoch, step).await?,
                &false,
            )?;
        }
        // Somebody writes while the pass works.
        self.store.mark_dirty(bucket, &[window(-1)]).await?;
        same(
            "a fold of old marks",
            &self.step(bucket, 1, fold(window(-1), 1)).await?,
            &false,
        )?;
        same("a fold", &self.step(bucket, 1, fold(window(1), 3)).await?, &true)?;
        self.store.mark_dirty(bucket, &[window(1)]).await?;
        let folded = Progress {
            epoch: 1,
            leased_until_ms: 500,
            dirty: [(window(-1), 2), (window(1), 1)].into(),
            folded: [(window(1), 1)].into(),
            late_marks: 6,
            ..Progress::default()
        };
        same("the marks that are left", &self.store.progress(bucket).await?, &folded)?;
        let began = self.begin(bucket, 1).await?;
        same("the next pass begins with them", &began.dirty, &folded.dirty)?;
        same(
            "a fold by the pass before",
            &self.step(bucket, 1, fold(window(1), 1)).await?,
            &false,
        )?;
        for (at, marks) in [(1, 1), (-1, 2)] {
            same(
                "the next fold",
                &self.step(bucket, 2, fold(window(at), marks)).await?,
                &true,
            )?;
        }
        let release = Step::Release { forget_before_ms: 0 };
        same("the end of the pass", &self.step(bucket, 2, release).await?, &true)?;
        let ended = Progress {
            epoch: 2,
            folded: [(window(1), 2)].into(),
            late_marks: 6,
            ..Progress::default()
        };
        same("old windows are forgotten", &self.store.progress(bucket).await?, &ended)
    }

    pub(super) async fn many_marks(&self) -> Result<(), Broken> {
        let bucket = Bucket(4);
        let windows: Vec<Window> = (-10..250).map(window).collect();
        self.store.mark_dirty(bucket, &windows).await?;
        let progress = self.begin(bucket, 0).await?;
        same(
            "many marks",
            &progress.dirty,
            &windows.iter().map(|window| (*window, 1)).collect(),
        )?;
        same("all of them", &progress.late_marks, &260)?;
        let release = Step::Release {
            forget_before_ms: 240 * HOUR_MS,
        };
        same("the end of the pass", &self.step(bucket, 1, release).await?, &true)?;
        let left = self.store.progress(bucket).await?.dirty;
        let wanted = (240..250).map(|number| (window(number), 1)).collect();
        same("many old windows are forgotten", &left, &wanted)
    }

    pub(super) async fn division(&self) -> Result<(), Broken> {
        let division = Division {
            buckets: 16,
            window_seconds: 7_200,
            raw_retention_s: 700,
            minute_retention_s: 3_000,
        };
        let other = Division {
            buckets: 17,
            window_seconds: 3_600,
            raw_retention_s: 1,
            minute_retention_s: 1,
        };
        for wanted in [division, other, division] {
            let stands = self.store.pin_division(wanted).await?;
            same("the division stays as it was first", &stands, &division)?;
        }
        let retentions = |raw_retention_s, minute_retention_s| Division {
            raw_retention_s,
            minute_retention_s,
            ..division
        };
        let raised = self.store.pin_division(retentions(701, 3_001)).await?;
        same("retentions are not raised", &raised, &division)?;
        let lowered = self.store.pin_division(retentions(300, 4_000)).await?;
        same("the raw retention is lowered", &lowered, &retentions(300, 3_000))?;
        let lowered = self.store.pin_division(retentions(700, 2_000)).await?;
        same("each by itself", &lowered, &retentions(300, 2_000))?;
        let stands = self.store.pin_division(division).await?;
        same("the least of each stands", &stands, &retentions(300, 2_000))
    }
}
