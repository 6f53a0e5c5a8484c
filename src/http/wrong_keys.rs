//! Delays the responses to wrong keys, by the peer's address. Requests with the right key are never delayed: behind a
//! proxy, all callers share one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The number of wrong keys of a peer without a delay, which allows for typing errors during setup.
const FREE: f64 = 5.0;
/// The half-life of a peer's count of wrong keys.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// The delay of the first delayed response; each further delay is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay between two responses to one peer.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// A request whose response would wait for longer, behind others of the same peer, is refused at once.
const LONGEST_QUEUE: Duration = Duration::from_secs(20);
/// The number of peers in memory.
const MOST_PEERS: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Peer {
    wrong: f64,
    at: Instant,
    /// The earliest time of the next response.
    free_at: Instant,
}

/// The peers that recently sent wrong keys; cloning it is cheap.
#[derive(Debug, Clone, Default)]
pub struct WrongKeys(Arc<Mutex<HashMap<IpAddr, Peer>>>);

impl WrongKeys {
    /// Waits until the response to a wrong key may be sent. Returns false if too many requests of the peer already
    /// wait.
    pub async fn wait(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer else { return true };
        match self.note(network(peer), Instant::now()) {
            Some(at) => {
                sleep_until(at).await;
                true
            }
            None => false,
        }
    }

    /// Counts a wrong key. Returns the time of its response, or none if that is too late.
    fn note(&self, peer: IpAddr, now: Instant) -> Option<Instant> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MOST_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, peer| now.saturating_duration_since(peer.at) < HALF_LIFE);
            if peers.len() >= MOST_PEERS {
                peers.clear();
            }
        }
        let entry = peers.entry(peer).or_insert(Peer { wrong: 0.0, at: now, free_at: now });
        let age = now.saturating_duration_since(entry.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        (entry.wrong, entry.at) = (entry.wrong * 0.5_f64.powf(age) + 1.0, now);
        if entry.wrong <= FREE {
            return Some(now);
        }
        let doubled = (entry.wrong - FREE - 1.0).clamp(0.0, 10.0).exp2();
        let delay = FIRST_DELAY.mul_f64(doubled).min(LONGEST_DELAY);
        let at = entry.free_at.max(now) + delay;
        if at - now > LONGEST_QUEUE {
            return None;
        }
        entry.free_at = at;
        Some(at)
    }
}

/// Returns the network of one subscriber: an IPv4 address, or a /64 of IPv6 (RFC 6177).
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test(start_paused = true)]
    async fn a_few_wrong_keys_cost_nothing_and_many_cost_ever_more() {
        let (keys, began) = (WrongKeys::default(), Instant::now());
        for _ in 0..5 {
            assert!(keys.wait(Some(ONE)).await);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            assert!(keys.wait(Some(ONE)).await);
        }
        let took = began.elapsed();
        assert!((Duration::from_secs(15)..Duration::from_secs(60)).contains(&took), "{took:?}");
        let before = Instant::now();
        assert!(keys.wait(Some("192.0.2.2".parse().unwrap())).await);
        assert_eq!(before.elapsed(), Duration::ZERO, "another peer is not slowed");
        tokio::time::advance(Duration::from_secs(600)).await;
        let before = Instant::now();
        assert!(keys.wait(Some(ONE)).await);
        assert_eq!(before.elapsed(), Duration::ZERO, "wrong keys are forgotten after a while");
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_wait_one_behind_the_other_and_no_longer_than_so() {
        let keys = WrongKeys::default();
        let all = futures_util::future::join_all((0..100).map(|_| keys.wait(Some(ONE))));
        let began = Instant::now();
        let answered = all.await.into_iter().filter(|is_answered| *is_answered).count();
        assert!((10..25).contains(&answered), "{answered}");
        assert!(began.elapsed() <= LONGEST_QUEUE, "{:?}", began.elapsed());
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_peer() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1:2:3:4"), network("2001:db8::ffff:0:0:1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8::1"));
        assert_eq!(network("::ffff:192.0.2.1"), ONE);
    }
}
