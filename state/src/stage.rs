use redb::TableDefinition;

/// Whose rows they are; each stage has a table of its own, and that table a version of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// Templates of the exporters.
    Templates,
    /// Sampling rates that exporters stated.
    SamplingRates,
    /// Names that exporters stated of their interfaces and the like.
    Names,
    /// Open attacks.
    Attacks,
    /// Mitigations that upstreams were asked for.
    Mitigations,
    /// Counters that must never run backwards: mid, tmid.
    Sequences,
    /// What an operator has decided: the stop switch.
    Policy,
    /// What is normal, by target.
    Baselines,
    /// What operators say that attacks really were.
    Labels,
    /// What the DOTS server keeps for its clients: mitigations, cuids, telemetry.
    DotsServer,
}

pub(crate) type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

impl Stage {
    /// All stages.
    pub const ALL: [Self; 10] = [
        Self::Templates,
        Self::SamplingRates,
        Self::Names,
        Self::Attacks,
        Self::Mitigations,
        Self::Sequences,
        Self::Policy,
        Self::Baselines,
        Self::Labels,
        Self::DotsServer,
    ];

    /// The table's name in the file.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Templates => "templates",
            Self::SamplingRates => "sampling-rates",
            Self::Names => "names",
            Self::Attacks => "attacks",
            Self::Mitigations => "mitigations",
            Self::Sequences => "sequences",
            Self::Policy => "policy",
            Self::Baselines => "baselines",
            Self::Labels => "labels",
            Self::DotsServer => "dots-server",
        }
    }

    /// The version of the rows' form that this program writes, at least 1. Who changes the form of a stage's rows
    /// raises its number and reads the older form too.
    pub const fn version(self) -> u32 {
        match self {
            Self::Templates
            | Self::SamplingRates
            | Self::Names
            | Self::Attacks
            | Self::Mitigations
            | Self::Sequences
            | Self::Policy
            | Self::Baselines
            | Self::Labels
            | Self::DotsServer => 1,
        }
    }

    pub(crate) const fn rows(self) -> Rows {
        TableDefinition::new(self.table())
    }
}
