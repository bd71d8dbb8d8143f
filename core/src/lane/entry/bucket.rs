//! Bucket of a user: a fixed hash, which no version may ever change, or users would change lanes.

/// Buckets of a group: one for each hundredth of a percent.
pub const BUCKETS: u16 = 10_000;

/// Between the parts of what is hashed: no byte of UTF-8, so that no salt runs over into a key.
const SEPARATOR: u8 = 0xff;

/// FNV-1a 64 over the bytes of `parts` with 0xff between two of them, then the finaliser of SplitMix64, which spreads
/// the last bytes over all bits.
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = OFFSET;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    for (position, part) in parts.into_iter().enumerate() {
        if position > 0 {
            take(SEPARATOR);
        }
        part.iter().copied().for_each(&mut take);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Bucket of the user with this key in groups with this salt: `hash(salt, key) mod 10,000`.
pub fn bucket(salt: &str, key: &[u8]) -> u16 {
    reduced(hash([salt.as_bytes(), key]))
}

/// Bucket of a value for a `percentage` in a lane's rule: `hash(salt, lane, value) mod 10,000`. The lane is in it, so that
/// the rules of two lanes, or a rule and a share, do not compete for the same users.
pub(super) fn bucket_of_rule(salt: &str, lane: &str, value: &[u8]) -> u16 {
    reduced(hash([salt.as_bytes(), lane.as_bytes(), value]))
}

fn reduced(hash: u64) -> u16 {
    (hash % u64::from(BUCKETS)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_never_changes() {
        // Worked out with a second implementation (Python); if this fails, users change lanes.
        let cases: [(&[&[u8]], u64); 5] = [
            (&[b""], 0xf52a_15e9_a9b5_e89b),
            (&[b"shop", b"alice"], 0x6320_2f9f_64e1_e00a),
            (&[b"shop", b"bob"], 0x13d6_5d5a_2ba0_c236),
            (&[b"shop", b"canary", b"alice"], 0x9a42_8bc9_763e_5e6a),
            (&[b"shop", b"4bf92f3577b34da6a3ce929d0e0e4736"], 0x0cc6_79d9_d5fb_9448),
        ];
        for (parts, expected) in cases {
            assert_eq!(hash(parts.iter().copied()), expected, "{parts:?}");
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(hash([&b"ab"[..], b"c"]), hash([&b"a"[..], b"bc"]));
    }

    #[test]
    fn users_spread_evenly_over_the_buckets() {
        const USERS: u32 = 100_000;
        let mut tenths = [0_u32; 10];
        for user in 0..USERS {
            tenths[usize::from(bucket("shop", format!("user-{user}").as_bytes()) / (BUCKETS / 10))] += 1;
        }
        // Five standard deviations of a fair draw (95).
        assert!(tenths.iter().all(|count| count.abs_diff(USERS / 10) < 475), "{tenths:?}");
    }
}
