//! The table of what the demo shows: every attempt, and what it is there to show.

/// A run of rows under one heading.
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) rows: &'static [Row],
}

/// One attempt of `agent.sh`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Its name in `agent.sh`.
    pub(super) name: &'static str,
    /// What it is, in a few words.
    pub(super) title: &'static str,
    /// What it is there to show. The policy is asked all the same; it has to agree.
    pub(super) shows: Shows,
    /// Whether the exec gate could hash the program before this attempt.
    pub(super) hashed: bool,
    /// The program that starts this one, where the policy asks for that.
    pub(super) started_by: Option<&'static str>,
}

/// What a row is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Reached,
    Refused,
}

const fn reached(name: &'static str, title: &'static str) -> Row {
    Row {
        name,
        title,
        shows: Shows::Reached,
        hashed: true,
        started_by: None,
    }
}

const fn refused(name: &'static str, title: &'static str) -> Row {
    Row {
        name,
        title,
        shows: Shows::Refused,
        hashed: true,
        started_by: None,
    }
}

/// What the agent does by itself, in the order of its `$attempts`.
pub(super) const AGENT: &[Section] = &[
    Section {
        heading: "The listed program, another program, another port, another address",
        rows: &[
            reached("curl", "curl, listed address and port"),
            refused("python", "python3, the same address and port"),
            refused("port", "curl, another port"),
            refused("address", "curl, another address"),
        ],
    },
    Section {
        heading: "Programs are known by the hash of their content",
        rows: &[
            reached("copy", "curl, copied under another name"),
            refused("changed", "curl, copied with one byte changed"),
        ],
    },
    Section {
        heading: "IPv6",
        rows: &[
            reached("curl6", "curl, listed address and port"),
            refused("python6", "python3, the same address and port"),
            refused("address6", "curl, another address"),
        ],
    },
    Section {
        heading: "IPv4 written as IPv6 is judged as IPv4",
        rows: &[
            reached("mapped", "curl, listed address and port"),
            refused("mapped-python", "python3, the same address and port"),
            refused("mapped-port", "curl, another port"),
        ],
    },
    Section {
        heading: "UDP, over a connected socket and by datagrams with their own destination",
        rows: &[
            reached("udp-connect", "python3, connected, listed"),
            refused("udp-connect-port", "python3, connected, not listed for UDP"),
            reached("udp-send", "python3, sendto, listed"),
            refused("udp-send-address", "python3, sendto, another address"),
        ],
    },
    Section {
        heading: "A program that is listed with what it starts",
        rows: &[
            refused("alone", "curl, by itself"),
            Row {
                started_by: Some("tools/driver"),
                ..reached("descendant", "curl, started by the listed program")
            },
        ],
    },
    Section {
        heading: "A program that is listed by its path",
        rows: &[reached(
            "pinned",
            "the tool, with the content that was pinned",
        )],
    },
];

/// What a second sandbox is told to try before clawd is killed.
pub(super) const BEFORE_KILL: Section = Section {
    heading: "A second sandbox, which will outlive its clawd",
    rows: &[
        reached("curl", "curl, listed address and port"),
        refused("python", "python3, the same address and port"),
    ],
};

/// With another content behind a path that was pinned for the first sandbox.
pub(super) const REPLACED: Section = Section {
    heading: "The listed tool was replaced since",
    rows: &[refused("pinned", "the tool, with another content")],
};

/// While no clawd runs.
pub(super) const WITHOUT_CLAWD: Section = Section {
    heading: "The same sandbox after `kill -9` of clawd: the kernel alone decides",
    rows: &[
        reached("curl", "curl, listed address and port"),
        refused("python", "python3, the same address and port"),
        refused("port", "curl, another port"),
        refused("changed", "curl, copied with one byte changed"),
        refused("udp-send-address", "python3, sendto, another address"),
        Row {
            name: "later",
            title: "a copy of curl that nobody could hash yet",
            shows: Shows::Refused,
            hashed: false,
            started_by: None,
        },
    ],
};

/// After the next clawd took over.
pub(super) const AFTER_RESTART: Section = Section {
    heading: "The same sandbox after the next clawd took over",
    rows: &[
        reached("curl", "curl, listed address and port"),
        refused("python", "python3, the same address and port"),
        reached("later", "the copy of curl, hashed at this exec"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    fn all_rows() -> Vec<&'static Row> {
        AGENT
            .iter()
            .chain([&BEFORE_KILL, &REPLACED, &WITHOUT_CLAWD, &AFTER_RESTART])
            .flat_map(|section| section.rows)
            .collect()
    }

    #[test]
    fn rows_of_the_agent_are_the_attempts_of_its_script_in_order() {
        let (_, rest) = crate::demo::workload::AGENT
            .split_once("\nattempts='")
            .unwrap();
        let (attempts, _) = rest.split_once('\'').unwrap();
        let attempts: Vec<&str> = attempts.split_whitespace().collect();
        let rows: Vec<&str> = AGENT
            .iter()
            .flat_map(|section| section.rows)
            .map(|row| row.name)
            .collect();
        assert_eq!(rows, attempts);
    }

    #[test]
    fn rows_name_attempts_that_the_script_knows() {
        for row in all_rows() {
            let case = format!("\n    {}) ", row.name);
            assert!(
                crate::demo::workload::AGENT.contains(&case),
                "{} is not in agent.sh",
                row.name
            );
        }
    }
}
