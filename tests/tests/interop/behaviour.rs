//! A behaviour of udocker as data: who prepares what, which script shows it, and what ours is expected to do.

use crate::workshop::Outcome;

/// What a store holds before a behaviour's own script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Empty,
    /// `test/bb:latest`, pulled.
    Image,
    /// And a container of it with the name `box`.
    Container,
}

impl Base {
    /// Leads here from the base before.
    pub fn script(self) -> &'static str {
        match self {
            Self::Empty => "writer install",
            Self::Image => "writer pull --registry=$REGISTRY test/bb",
            // A container of ours gets a whole tree at the first `inspect -p`; udocker's has one from the beginning.
            Self::Container => "writer create --name=box test/bb; writer inspect -p box",
        }
    }

    pub fn next(self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Image),
            Self::Image => Some(Self::Container),
            Self::Container => None,
        }
    }
}

/// What ours is expected to do.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// What udocker does: the status, standard output, and whether there is an error, which begins as udocker's.
    Same,
    /// Something else, for a reason that is one of the listed ones.
    Deliberate { reason: &'static str, status: i32, stdout: &'static str },
}

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// The row of udocker's description that it belongs to.
    pub row: &'static str,
    pub name: &'static str,
    pub base: Base,
    /// `writer`, or `theirs`, which is always udocker, prepares; the output is not looked at.
    pub before: &'static str,
    /// `udocker` shows.
    pub script: &'static str,
    pub expected: Expected,
    /// A remark that both make, on whichever stream.
    pub remark: Option<&'static str>,
}

impl Behaviour {
    /// Whether it matters who prepared the store.
    pub fn has_writer(&self) -> bool {
        self.base != Base::Empty || self.uses("writer")
    }
    /// Whether a program shows it, not only a listing of what was written.
    pub fn has_reader(&self) -> bool {
        self.uses("udocker ")
    }
    fn uses(&self, word: &str) -> bool {
        self.before.contains(word) || self.script.contains(word)
    }
    /// What is wrong with what ours did, beside what udocker did.
    pub fn judge(&self, python: &Outcome, ours: &Outcome) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        match self.expected {
            Expected::Same => {
                expect(python.status == ours.status, format!("status {}, udocker's {}", ours.status, python.status));
                expect(
                    python.stdout == ours.stdout,
                    format!("shows {:?}\n   udocker {:?}", ours.stdout, python.stdout),
                );
                expect(same_error(python, ours), format!("errors {:?}, udocker's {:?}", ours.errors, python.errors));
            }
            Expected::Deliberate { status, stdout, .. } => {
                expect(ours.status == status, format!("status {}, not {status}; {:?}", ours.status, ours.errors));
                expect(ours.stdout == stdout, format!("shows {:?}\n       not {stdout:?}", ours.stdout));
                let differs =
                    (python.status, &python.stdout) != (ours.status, &ours.stdout) || !same_error(python, ours);
                expect(differs, "is no longer a difference".into());
            }
        }
        if let Some(remark) = self.remark {
            expect(python.remarks.iter().any(|line| line == remark), format!("udocker remarks {:?}", python.remarks));
            expect(ours.remarks.iter().any(|line| line == remark), format!("remarks {:?}, not {remark}", ours.remarks));
        }
        wrong
    }
    /// Both make this remark.
    pub const fn remarks(self, remark: &'static str) -> Self {
        Self { remark: Some(remark), ..self }
    }
    /// Ours ends so, on purpose.
    pub const fn deliberately(self, reason: &'static str, status: i32, stdout: &'static str) -> Self {
        Self { expected: Expected::Deliberate { reason, status, stdout }, ..self }
    }
}

/// A behaviour that is the same in both.
pub const fn same(
    row: &'static str,
    name: &'static str,
    base: Base,
    before: &'static str,
    script: &'static str,
) -> Behaviour {
    Behaviour { row, name, base, before, script, expected: Expected::Same, remark: None }
}

/// The words that udocker's description asks for.
const WORDS: [&str; 12] = [
    "must specify image:tag or repository/image:tag",
    "no files downloaded",
    "create container: imagerepo is invalid",
    "container name already exists",
    "container is protected",
    "image repository is protected",
    "invalid container id",
    "invalid execmode: ",
    "output file already exists: ",
    "invalid command: ",
    "syntax error at: ",
    "invalid udocker repository: ",
];

/// Whether both report an error or none; where udocker uses words that it is known for, ours begins with them.
fn same_error(python: &Outcome, ours: &Outcome) -> bool {
    let Some(first) = ours.errors.first() else { return python.errors.is_empty() };
    // udocker prints the Python value that it has where an ID is missing.
    let lines = || python.errors.iter().map(|line| line.trim_end_matches(" False"));
    let known = lines().filter(|line| WORDS.iter().any(|words| line.starts_with(words.trim_end())));
    let known: Vec<&str> = known.collect();
    lines().count() > 0 && (known.is_empty() || known.iter().any(|line| first.starts_with(line)))
}
