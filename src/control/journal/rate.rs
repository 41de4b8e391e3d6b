//! How workers share a rate.

use crate::gate::token_bucket::Rate;

/// The share of each worker, so that none has to ask the others.
pub(in crate::control) fn share(rate: Rate, workers: usize) -> Rate {
    let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
    match rate.tokens / workers {
        0 => Rate { tokens: 1, per: (rate.per * workers / rate.tokens.max(1)).min(Rate::PERIOD_LIMIT), burst: 1 },
        tokens => Rate { tokens, per: rate.per, burst: tokens },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn workers_share_a_rate() {
        let second = Duration::from_secs(1);
        let rate = |tokens| Rate { tokens, per: second, burst: tokens };
        assert_eq!(share(rate(100), 4), rate(25));
        assert_eq!(share(rate(1), 4), Rate { tokens: 1, per: 4 * second, burst: 1 });
        assert_eq!(share(rate(2), 4), Rate { tokens: 1, per: 2 * second, burst: 1 });
        assert_eq!(share(rate(7), 0), rate(7));
    }
}
