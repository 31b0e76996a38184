//! What the rules say before a job has a node, a partition or an account: a denial that holds whatever these will be.

use super::{Action, Policy, Rule};

impl Policy {
    /// The mildest that these rules can be for a job whose account, partition and queue are not known, nor, unless its image
    /// `is_found`, the image's store and digests: what this denies, the rules deny on every node.
    ///
    /// A deny rule that may not match is none; an allow rule that may match does, and narrows nothing.
    pub fn mildest(&self, is_found: bool) -> Self {
        let is_open = |rule: &Rule| {
            let of_job = rule.accounts.is_some() || rule.partitions.is_some() || rule.queues.is_some();
            of_job || !is_found && (rule.stores.is_some() || rule.digests.is_some())
        };
        let mild = |rule: &Rule| match (is_open(rule), rule.action) {
            (false, _) => Some(rule.clone()),
            (true, Action::Deny) => None,
            (true, Action::Allow) => Some(Rule {
                accounts: None,
                partitions: None,
                queues: None,
                digests: rule.digests.clone().filter(|_| is_found),
                stores: rule.stores.clone().filter(|_| is_found),
                modes: None,
                gpu: true,
                writable: true,
                ..rule.clone()
            }),
        };
        Self { rules: self.rules.iter().filter_map(mild).collect(), ..self.clone() }
    }
}
