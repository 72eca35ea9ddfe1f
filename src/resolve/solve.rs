//! Debian's dependencies as a problem for a SAT solver.
//!
//! `Pre-Depends` and `Depends` are requirements (alternatives in their order, real packages before providers, then by
//! priority and name); `Conflicts` and `Breaks` are constraints. `Recommends` and `Essential` are ignored: an image is
//! what its roles ask for. Suites with `NotAutomatic` (backports) take part only where a request names them.

use super::index::{Candidate, Universe};
use super::relation::{self, Atom, compare};
use crate::error::{Fault, Kind, Result};
use crate::spec::PackageRequest;
use crate::spec::requests::Use;
use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, Problem, SolvableId, Solver, SolverCache, StringId,
    UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display};

/// A set of candidates of one name, with the words that describe it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Allowed {
    label: String,
    candidates: Vec<usize>,
}

/// A candidate inside the solver.
#[derive(Debug, Clone)]
struct Record {
    candidate: usize,
    label: String,
}

impl Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl VersionSet for Allowed {
    type V = Record;
}

/// What one solution starts from.
pub(super) struct Question<'a> {
    /// For messages.
    pub(super) usage: Use,
    /// What must be there.
    pub(super) requests: &'a [PackageRequest],
    /// Name → version that is kept if it can be.
    pub(super) kept: BTreeMap<&'a str, &'a str>,
    /// Candidates that must be chosen.
    pub(super) fixed: Vec<usize>,
}

impl Question<'_> {
    /// Whether a candidate may be chosen at all.
    fn admits(&self, candidate: &Candidate<'_>) -> bool {
        let named = |request: &PackageRequest| {
            request.name == candidate.name && request.suite.as_deref().is_some_and(|suite| candidate.is_in(suite))
        };
        !candidate.not_automatic || self.requests.iter().any(named)
    }
}

struct Provider<'a, 'b> {
    universe: &'b Universe<'a>,
    question: &'b Question<'b>,
    pool: Pool<Allowed>,
    /// Candidate → its id in the pool.
    solvables: RefCell<HashMap<usize, SolvableId>>,
}

/// Chooses packages; returns indexes into [`Universe::candidates`], sorted by name.
///
/// # Errors
/// [`Kind::Spec`] when the requests cannot be met together, naming the packages that stand against each other.
pub(super) fn solve(universe: &Universe<'_>, question: &Question<'_>) -> Result<Vec<usize>> {
    let provider = Provider { universe, question, pool: Pool::default(), solvables: RefCell::default() };
    let mut requirements = Vec::new();
    for request in question.requests {
        requirements.push(provider.request(request)?);
    }
    for id in &question.fixed {
        let Candidate { name, version, .. } = provider.candidate(*id);
        requirements.push(provider.set(name, format!("= {version}"), vec![*id]).into());
    }
    let mut solver = Solver::new(provider);
    let solved = match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solved) => solved,
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let why = conflict.display_user_friendly(&solver).to_string();
            let message = format!(
                "the packages for `{}` cannot be installed together\n{}",
                question.usage.word(),
                why.trim_end()
            );
            return Err(Fault::new(Kind::Spec, message)
                .hint("change the spec's or a role's packages or suites")
                .into());
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => anyhow::bail!("the solver was cancelled"),
    };
    let pool = &solver.provider().pool;
    let mut chosen: Vec<usize> = solved.into_iter().map(|id| pool.resolve_solvable(id).record.candidate).collect();
    chosen.sort_by_key(|id| universe.candidates[*id].name);
    Ok(chosen)
}

/// As [`solve`], with the newest version of each of `names` that can be. It is not enough to let them go: a package that
/// stays may hold one (`Depends: systemd (= 257-1)`), and has to move with it. Also returns what kept any from its newest.
///
/// # Errors
/// Those of [`solve`].
pub(super) fn raise<'a>(
    universe: &Universe<'a>,
    mut question: Question<'a>,
    names: &[String],
) -> Result<(Vec<usize>, Vec<String>)> {
    let mut chosen = solve(universe, &question)?;
    let mut held = Vec::new();
    for name in names {
        let Some(now) = chosen.iter().copied().find(|id| universe.candidates[*id].name == name) else { continue };
        for id in newest_first(universe, &question, now) {
            question.fixed.push(id);
            match solve(universe, &question) {
                Ok(better) => {
                    chosen = better;
                    break;
                }
                Err(error) => {
                    question.fixed.pop();
                    held.push(format!("{name} cannot move to {}: {error:#}", universe.candidates[id].version));
                }
            }
        }
    }
    // What is fixed would stay when nothing needs it any more.
    question.fixed.clear();
    question.kept = chosen.iter().map(|id| &universe.candidates[*id]).map(|kept| (kept.name, kept.version)).collect();
    Ok((solve(universe, &question)?, held))
}

/// A chosen candidate and those of its name that may be chosen and are newer, the newest first.
fn newest_first(universe: &Universe<'_>, question: &Question<'_>, now: usize) -> Vec<usize> {
    let candidates = &universe.candidates;
    let order = |a: usize, b: usize| compare(candidates[a].version, candidates[b].version).unwrap_or(Ordering::Equal);
    let named = universe.named(candidates[now].name).iter().copied();
    let mut found: Vec<_> =
        named.filter(|id| question.admits(&candidates[*id]) && order(*id, now) == Ordering::Greater).collect();
    found.sort_by(|a, b| order(*b, *a).then(a.cmp(b)));
    found.push(now);
    found
}

/// Dependencies that count as met: what only maintainer scripts call, and what nodelith does itself. An initrd builder,
/// its shell and its compressors would otherwise be in every image.
const DONE_BY_US: &[&str] = &[
    "awk",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "initramfs-tools",
    "linux-base",
    "linux-initramfs-tool",
];

impl<'a> Provider<'a, '_> {
    fn candidate(&self, id: usize) -> &Candidate<'a> {
        &self.universe.candidates[id]
    }

    fn available(&self, id: usize) -> bool {
        self.question.admits(self.candidate(id))
    }

    fn request(&self, request: &PackageRequest) -> Result<ConditionalRequirement> {
        let named = self.universe.named(&request.name);
        let suite = request.suite.as_deref();
        let candidates: Vec<usize> = named
            .iter()
            .copied()
            .filter(|id| self.available(*id) && suite.is_none_or(|suite| self.candidate(*id).is_in(suite)))
            .collect();
        if candidates.is_empty() {
            return Err(self.no_such_package(request).into());
        }
        let label = suite.map_or_else(|| "*".into(), |suite| format!("from {suite}"));
        Ok(self.set(&request.name, label, candidates).into())
    }

    fn no_such_package(&self, request: &PackageRequest) -> Fault {
        let name = &request.name;
        let place = request.suite.as_ref().map(|suite| format!(" in {suite}")).unwrap_or_default();
        let fault = Fault::new(Kind::Spec, format!("there is no package `{name}`{place}"));
        let suites = self.universe.named(name).iter().flat_map(|id| self.candidate(*id).suites());
        let suites: BTreeSet<_> = suites.map(|suite| format!("`{name}/{suite}`")).collect();
        let providers: BTreeSet<_> =
            self.universe.providing(name).iter().map(|(id, _)| format!("`{}`", self.candidate(*id).name)).collect();
        let list = |words: BTreeSet<String>| words.into_iter().take(8).collect::<Vec<_>>().join(", ");
        if !suites.is_empty() {
            fault.hint(format!("write {}", list(suites)))
        } else if !providers.is_empty() {
            fault.hint(format!("it is provided by others, write one of {}", list(providers)))
        } else {
            fault.hint("check the name, and that the spec's `suites` hold it")
        }
    }

    /// Interns a set of candidates that all have this name.
    fn set(&self, name: &str, label: String, mut candidates: Vec<usize>) -> VersionSetId {
        candidates.sort_unstable();
        candidates.dedup();
        let name = self.pool.intern_package_name(name.to_owned());
        self.pool.intern_version_set(name, Allowed { label, candidates })
    }

    fn solvable(&self, name: NameId, id: usize) -> SolvableId {
        *self.solvables.borrow_mut().entry(id).or_insert_with(|| {
            let candidate = self.candidate(id);
            self.pool.intern_solvable(name, Record { candidate: id, label: candidate.version.to_owned() })
        })
    }

    /// All candidates that satisfy an atom: name → candidates, real packages first, then providers by rank and name.
    fn satisfying(&self, atom: &Atom<'_>) -> Vec<(&'a str, Vec<usize>)> {
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        let real: Vec<usize> = self
            .universe
            .named(atom.name)
            .iter()
            .copied()
            .filter(|id| atom.admits(self.candidate(*id).version))
            .collect();
        if let Some(first) = real.first() {
            groups.push((self.candidate(*first).name, real));
        }
        let mut providers: BTreeMap<(u8, &str), Vec<usize>> = BTreeMap::new();
        for (id, version) in self.universe.providing(atom.name) {
            let candidate = self.candidate(*id);
            if candidate.name != atom.name && atom.admits_provided(*version) {
                providers.entry((candidate.rank, candidate.name)).or_default().push(*id);
            }
        }
        groups.extend(providers.into_iter().map(|((_, name), ids)| (name, ids)));
        groups
    }

    /// One item of `Depends`.
    fn requirement(&self, alternatives: &[Atom<'_>]) -> ConditionalRequirement {
        let mut sets = Vec::new();
        for atom in alternatives {
            for (name, mut ids) in self.satisfying(atom) {
                ids.retain(|id| self.available(*id));
                if !ids.is_empty() {
                    let label = if name == atom.name { label(atom) } else { format!("(provides {atom})") };
                    sets.push(self.set(name, label, ids));
                }
            }
        }
        match sets[..] {
            // An empty set of the first alternative: the solver explains that nothing matches it.
            [] => match alternatives.first() {
                Some(atom) => self.set(atom.name, label(atom), Vec::new()).into(),
                None => self.set("a package of another architecture", "*".into(), Vec::new()).into(),
            },
            [one] => one.into(),
            [first, ref others @ ..] => {
                let union = self.pool.intern_version_set_union(first, others.iter().copied());
                resolvo::Requirement::Union(union).into()
            }
        }
    }

    /// The candidates that may stay beside `own`, for every name that an item of `Conflicts` or `Breaks` hits.
    fn constraints(&self, own: usize, atom: &Atom<'_>) -> Vec<VersionSetId> {
        let mut sets = Vec::new();
        for (name, hit) in self.satisfying(atom) {
            // A package that provides what it conflicts with means all others (Policy 7.6.2).
            if name != self.candidate(own).name {
                let rest = self.universe.named(name).iter().copied().filter(|id| !hit.contains(id)).collect();
                sets.push(self.set(name, format!("not {atom}"), rest));
            }
        }
        sets
    }

    fn dependencies(&self, id: usize) -> Option<KnownDependencies> {
        let candidate = self.candidate(id);
        let mut known = KnownDependencies::default();
        for field in candidate.depends {
            let items = relation::parse(field)?;
            let wanted = items.iter().filter(|item| !item.iter().any(|atom| DONE_BY_US.contains(&atom.name)));
            known.requirements.extend(wanted.map(|item| self.requirement(item)));
        }
        for field in candidate.breaks {
            for atom in relation::parse(field)?.iter().flatten() {
                known.constrains.extend(self.constraints(id, atom));
            }
        }
        Some(known)
    }
}

fn label(atom: &Atom<'_>) -> String {
    atom.to_string().strip_prefix(atom.name).map_or("*", str::trim).to_owned()
}

impl Interner for Provider<'_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        &self.pool.resolve_solvable(solvable).record
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.pool.resolve_package_name(name)
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl Display + '_ {
        &self.pool.resolve_version_set(version_set).label
    }

    fn display_string(&self, string_id: StringId) -> impl Display + '_ {
        self.pool.resolve_string(string_id)
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(version_set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.pool.resolve_solvable(solvable).name
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Provider<'_, '_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let allowed = &self.pool.resolve_version_set(version_set).candidates;
        let inside = |id: &SolvableId| allowed.binary_search(&self.pool.resolve_solvable(*id).record.candidate).is_ok();
        candidates.iter().copied().filter(|id| inside(id) != inverse).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let text = self.pool.resolve_package_name(name);
        let ids: Vec<usize> = self.universe.named(text).iter().copied().filter(|id| self.available(*id)).collect();
        let candidates: Vec<SolvableId> = ids.iter().map(|id| self.solvable(name, *id)).collect();
        let kept = self.question.kept.get(text.as_str());
        let favored = ids.iter().position(|id| kept == Some(&self.candidate(*id).version)).map(|at| candidates[at]);
        let hint_dependencies_available = HintDependenciesAvailable::None;
        Some(Candidates { candidates, favored, hint_dependencies_available, ..Candidates::default() })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        // Highest version first; between equal versions the first suite of the spec.
        solvables.sort_by(|a, b| {
            let (a, b) =
                (self.pool.resolve_solvable(*a).record.candidate, self.pool.resolve_solvable(*b).record.candidate);
            let newer = compare(self.candidate(b).version, self.candidate(a).version);
            newer.unwrap_or(Ordering::Equal).then(a.cmp(&b))
        });
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        match self.dependencies(self.pool.resolve_solvable(solvable).record.candidate) {
            Some(known) => Dependencies::Known(known),
            None => Dependencies::Unknown(self.pool.intern_string("its dependencies cannot be read")),
        }
    }
}
