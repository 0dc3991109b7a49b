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
    /// Which machine of an active/standby pair wrote these rows, and in which epoch.
    Standby,
}

pub(crate) type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

impl Stage {
    /// All stages.
    pub const ALL: [Self; 11] = [
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
        Self::Standby,
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
            Self::Standby => "standby",
        }
    }

    /// What stands for the stage in a batch that goes to another machine; never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Templates => 1,
            Self::SamplingRates => 2,
            Self::Names => 3,
            Self::Attacks => 4,
            Self::Mitigations => 5,
            Self::Sequences => 6,
            Self::Policy => 7,
            Self::Baselines => 8,
            Self::Labels => 9,
            Self::DotsServer => 10,
            Self::Standby => 11,
        }
    }

    /// The stage that a code stands for.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.code() == code)
    }

    /// The version of the rows' form that this program writes, at least 1. Who changes the form of a stage's rows
    /// raises its number, and adds a step to `migrate.rs` or reads the older form too.
    pub const fn version(self) -> u32 {
        match self {
            Self::Names => 2,
            Self::Templates
            | Self::SamplingRates
            | Self::Attacks
            | Self::Mitigations
            | Self::Sequences
            | Self::Policy
            | Self::Baselines
            | Self::Labels
            | Self::DotsServer
            | Self::Standby => 1,
        }
    }

    pub(crate) const fn rows(self) -> Rows {
        TableDefinition::new(self.table())
    }
}
