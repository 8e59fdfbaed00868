//! What a consumer knows of the catalog: the reference of each series it has met, for each period.
//!
//! Nothing here has to be right for ever. A series may get two references (two consumers meet it at once, or one crashes
//! between the catalog and the segment): readers know both. Forgetting costs a read of the catalog.

use crate::flush::InOrder;
use crate::layout::Layout;
use crate::store::{CatalogEntry, NewCatalogEntry, Store, StoreError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use tidemark_model::{Bucket, Labels, Period, SeriesId, series};
use tidemark_wire::envelope::{SeriesView, series_check};

/// The most series that a consumer remembers: about 60 bytes each, a quarter of the function's memory.
const MAX_KNOWN: usize = 2_000_000;

/// How many new series are written to the catalog before they are remembered. When very many come at once and the
/// database slows down, each attempt gets further than the one before.
const ADDED_AT_ONCE: usize = 2_000;

/// Hashes keys that begin with a fingerprint: those are hashes already.
#[derive(Default)]
pub(crate) struct Fold(u64);

/// See [`Fold`].
pub(crate) type FingerprintHasher = BuildHasherDefault<Fold>;

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, part: u64) {
        self.0 = self.0.rotate_left(23) ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_i64(&mut self, part: i64) {
        self.write_u64(part.cast_unsigned());
    }
}

/// A series as a consumer meets it, and what it has learned of it.
#[derive(Clone, Debug)]
pub(crate) struct Identity<V> {
    view: V,
    /// The fingerprint.
    pub(crate) id: SeriesId,
    /// A second hash of name and labels, which differs where two series share a fingerprint.
    pub(crate) check: u64,
    /// The periods of its samples, with the reference in each once it is known. Nearly always one.
    references: Vec<(Period, Option<u32>)>,
}

/// What a consumer needs of a series beside its fingerprint.
pub(crate) trait Described {
    fn name(&self) -> &str;
    fn labels(&self) -> Labels;
}

impl Described for SeriesView<'_> {
    fn name(&self) -> &str {
        SeriesView::name(self)
    }
    fn labels(&self) -> Labels {
        self.to_labels()
    }
}

impl<'e> Identity<SeriesView<'e>> {
    pub(crate) fn of(view: SeriesView<'e>) -> Self {
        Self {
            view,
            id: view.id(),
            check: view.check(),
            references: Vec::new(),
        }
    }
}

impl<V> Identity<V> {
    /// Notes that the series has a sample in a period.
    pub(crate) fn touch(&mut self, period: Period) {
        if self.references.iter().all(|(known, _)| *known != period) {
            self.references.push((period, None));
        }
    }

    /// The reference in a period that was touched and resolved.
    pub(crate) fn reference(&self, period: Period) -> u32 {
        let found = self.references.iter().find(|(known, _)| *known == period);
        found.and_then(|(_, reference)| *reference).unwrap_or_default()
    }
}

/// A series that may not be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) slot: usize,
    pub(crate) reason: String,
}

/// What new catalog entries say of when they were written.
#[derive(Clone, Debug)]
pub(crate) struct FirstSeen {
    at_ms: i64,
    in_order: InOrder,
}

impl FirstSeen {
    /// For the series of a run of records with this arrival. One more than the arrival: segments with just this one may be
    /// there already, and who has seen them must find the series when it asks for what was first seen after that arrival.
    pub(crate) fn of(arrival_ms: u64, in_order: InOrder) -> Self {
        Self {
            at_ms: i64::try_from(arrival_ms).unwrap_or(i64::MAX).saturating_add(1),
            in_order,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    check: u64,
    reference: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct KnownSeries {
    layout: Layout,
    series: HashMap<(SeriesId, Period), Known, FingerprintHasher>,
    /// The metrics whose catalog has been read.
    metrics: HashSet<(u64, Period), FingerprintHasher>,
}

impl KnownSeries {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            series: HashMap::default(),
            metrics: HashSet::default(),
        }
    }

    /// Finds the reference of every series in every period that it was touched in: from memory, else from the catalog,
    /// else by adding the series to the catalog. Series whose fingerprint belongs to another one are refused.
    pub(crate) async fn resolve<V: Described>(
        &mut self,
        store: &impl Store,
        identities: &mut [Identity<V>],
        first_seen: &FirstSeen,
    ) -> Result<Vec<Refusal>, StoreError> {
        if self.series.len() > MAX_KNOWN {
            self.series = HashMap::default();
            self.metrics = HashSet::default();
        }
        let mut refusals = Vec::new();
        let mut unknown = self.look_up(identities, 0..identities.len(), &mut refusals);
        if unknown.is_empty() {
            return Ok(refusals);
        }
        self.read_catalog(store, identities, &unknown).await?;
        unknown = self.look_up(identities, unknown, &mut refusals);
        self.add(store, identities, &unknown, first_seen).await?;
        // Two new series with one fingerprint in one batch: the first was added, the second is refused now.
        let left = self.look_up(identities, unknown, &mut refusals);
        // A sample without its own reference would be stored as another series'. Better not at all, and loudly.
        if let Some(slot) = left.first() {
            return Err(StoreError::Corrupt {
                item: format!("catalog entry of {}", identities[*slot].id),
                reason: "it has no reference although it was added".to_owned(),
            });
        }
        Ok(refusals)
    }

    /// Fills in what is known, and returns the slots that lack a reference.
    fn look_up<V>(
        &self,
        identities: &mut [Identity<V>],
        slots: impl IntoIterator<Item = usize>,
        refusals: &mut Vec<Refusal>,
    ) -> Vec<usize> {
        let mut unknown = Vec::new();
        for slot in slots {
            let identity = &mut identities[slot];
            let (id, check) = (identity.id, identity.check);
            let mut taken = false;
            for (period, reference) in &mut identity.references {
                match self.series.get(&(id, *period)) {
                    Some(known) if known.check == check => *reference = Some(known.reference),
                    Some(_) => taken = true,
                    None => {}
                }
            }
            if taken {
                let reason = format!("fingerprint {id} belongs to another series already");
                tracing::error!(fingerprint = %id, "two series have one fingerprint: the samples of the later one are refused");
                refusals.push(Refusal { slot, reason });
            } else if identity.references.iter().any(|(_, reference)| reference.is_none()) {
                unknown.push(slot);
            }
        }
        unknown
    }

    /// Reads the catalog of the metrics that have not been read yet.
    async fn read_catalog<V: Described>(
        &mut self,
        store: &impl Store,
        identities: &[Identity<V>],
        slots: &[usize],
    ) -> Result<(), StoreError> {
        let mut wanted: BTreeMap<(&str, Period), u64> = BTreeMap::new();
        for slot in slots {
            let identity = &identities[*slot];
            for (period, _) in &identity.references {
                if !self.metrics.contains(&(identity.id.name, *period)) {
                    wanted.insert((identity.view.name(), *period), identity.id.name);
                }
            }
        }
        let reads = wanted
            .iter()
            .map(|((metric, period), name)| async move {
                let entries = store.catalog(metric, *period, None).await?;
                Ok::<_, StoreError>((*metric, *period, *name, entries))
            })
            .collect();
        let mut canonical = Vec::new();
        for read in crate::bounded::all(reads).await {
            let (metric, period, name, entries) = read?;
            for entry in entries {
                canonical.clear();
                series::write_canonical(&mut canonical, entry.labels.iter());
                let known = Known {
                    check: series_check(metric, &canonical),
                    reference: entry.reference,
                };
                // Of two references the smaller, so that all consumers agree.
                let place = self.series.entry((entry.id, period)).or_insert(known);
                place.reference = place.reference.min(known.reference);
            }
            self.metrics.insert((name, period));
        }
        Ok(())
    }

    /// Gives new series their references and writes them to the catalog, before any segment names them.
    async fn add<V: Described>(
        &mut self,
        store: &impl Store,
        identities: &[Identity<V>],
        slots: &[usize],
        first_seen: &FirstSeen,
    ) -> Result<(), StoreError> {
        let mut by_bucket: BTreeMap<Bucket, Vec<(usize, Period)>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for slot in slots {
            let identity = &identities[*slot];
            for (period, reference) in &identity.references {
                if reference.is_none() && seen.insert((identity.id, *period)) {
                    by_bucket
                        .entry(self.layout.buckets.of(identity.id))
                        .or_default()
                        .push((*slot, *period));
                }
            }
        }
        let reservations = by_bucket
            .iter()
            .map(|(bucket, new)| async move {
                // A batch holds fewer series than a u32 counts.
                let first = store.allocate_references(*bucket, new.len() as u32).await?;
                Ok::<_, StoreError>((*bucket, first, new))
            })
            .collect();
        let mut added = Vec::new();
        for reservation in crate::bounded::all(reservations).await {
            let (bucket, first, new) = reservation?;
            let late = !first_seen.in_order.holds(bucket, self.layout.buckets);
            for ((slot, period), reference) in new.iter().zip(first..) {
                let identity = &identities[*slot];
                let entry = NewCatalogEntry {
                    metric: identity.view.name().to_owned(),
                    period: *period,
                    entry: CatalogEntry {
                        id: identity.id,
                        reference,
                        labels: identity.view.labels(),
                        first_seen_ms: first_seen.at_ms,
                        late,
                    },
                    expires_at_s: self.layout.catalog_expires_at_s(*period),
                };
                added.push((entry, identity.check));
            }
        }
        for chunk in added.chunks(ADDED_AT_ONCE) {
            let entries = chunk.iter().map(|(entry, _)| entry.clone()).collect();
            if let Err(failed) = store.add_to_catalog(entries).await {
                // Some of them may be written. The next attempt reads them instead of adding them a second time.
                for (new, _) in chunk {
                    self.metrics.remove(&(new.entry.id.name, new.period));
                }
                return Err(failed);
            }
            self.series.extend(chunk.iter().map(|(new, check)| {
                let known = Known {
                    check: *check,
                    reference: new.entry.reference,
                };
                ((new.entry.id, new.period), known)
            }));
        }
        Ok(())
    }
}
