//! A new plan for workers that run: all that can fail happens before the one swap, and nothing that lives is made anew.

use std::sync::Arc;

use crate::edge::driver::DriverChoice;
use crate::edge::policy::{Policy, Target};

use super::supervisor::{Applied, Plan, Running, StartError};

impl Running {
    /// Puts a new plan in force. Exchanges in flight finish under the policy that they started with; what has been seen
    /// and spent, and connections to applications that stay, are kept.
    ///
    /// # Errors
    /// [`StartError`]: nothing has changed.
    pub fn apply(&mut self, mut plan: Plan) -> Result<Applied, StartError> {
        let mut needs_restart = Vec::new();
        if plan.workers != self.in_force.workers {
            needs_restart.push(stays("server.workers", self.in_force.workers, plan.workers));
        }
        if plan.driver != self.in_force.driver {
            needs_restart.push(stays("server.driver", driver(self.in_force.driver), driver(plan.driver)));
        }
        if plan.listeners != self.in_force.listeners {
            needs_restart.push("listener: addresses stay as they are".to_owned());
        }
        let published = Arc::clone(&self.shared_state.policy);
        plan.policy.live.replay_tables = self.replay.of(plan.policy.gate.routes.routes());
        keep_addresses(&published.current(), &plan.policy);
        drop(published.publish(plan.policy));
        Ok(Applied { added: Vec::new(), removed: Vec::new(), needs_restart, generation: published.generation() })
    }
}

fn stays(key: &str, now: impl std::fmt::Display, wanted: impl std::fmt::Display) -> String {
    format!("{key} stays {now} until the process is restarted; {wanted} is wanted")
}

const fn driver(choice: DriverChoice) -> &'static str {
    match choice {
        DriverChoice::Auto => "auto",
        DriverChoice::IoUring => "io_uring",
        DriverChoice::Epoll => "epoll",
    }
}

/// A name that does not resolve at this moment keeps the addresses that are known.
fn keep_addresses(before: &Policy, after: &Policy) {
    for upstream in &after.upstreams {
        let Target::Tcp(new) = &upstream.target else { continue };
        let known = before.upstreams.iter().find_map(|upstream| match &upstream.target {
            Target::Tcp(old) if old.name == new.name => Some(old.current()),
            _ => None,
        });
        if let Some(known) = known.filter(|_| new.current().is_empty()) {
            new.replace(known.to_vec());
        }
    }
}
