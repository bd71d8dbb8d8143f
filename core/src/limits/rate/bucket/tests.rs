//! Buckets keep their rate and depth, whatever the numbers, and say when there is a token.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// Some moment.
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn takes(bucket: &Bucket, pace: &Pace, now: Duration) -> u64 {
    (0..100_000).take_while(|_| bucket.take(pace, now).is_ok()).count() as u64
}

#[test]
fn bucket_gives_its_burst_at_once_and_then_its_rate() {
    for (requests, per, burst) in [(10, 1, 10), (1_000, 1, 50), (3, 60, 1), (7, 3_600, 7), (999, 1, 2_000)] {
        let (bucket, pace) = (Bucket::default(), Pace::new(requests, per * SECOND, burst));
        assert_eq!(takes(&bucket, &pace, NOW), burst, "{requests} in {per} s");
        let token = (per * SECOND) / u32::try_from(requests).unwrap();
        assert_eq!(takes(&bucket, &pace, NOW + token - Duration::from_micros(2)), 0, "{requests} in {per} s");
        assert_eq!(takes(&bucket, &pace, NOW + token + Duration::from_micros(2)), 1, "{requests} in {per} s");
        assert_eq!(takes(&bucket, &pace, NOW + 10_000 * per * SECOND), burst, "never more than its depth");
    }
}

#[test]
fn rate_is_kept_over_a_long_time_whatever_it_is() {
    for requests in [1u64, 3, 333, 1_000, 30_011] {
        let (bucket, pace) = (Bucket::default(), Pace::new(requests, SECOND, 2));
        let steps = 4 * requests * 10;
        let taken =
            (1..=steps).filter(|step| bucket.take(&pace, NOW + SECOND * 10 * *step as u32 / steps as u32).is_ok());
        let taken = taken.count() as u64;
        assert!(taken.abs_diff(requests * 10) <= 2 + requests / 10_000, "{taken} of {requests} a second in 10 s");
    }
}

#[test]
fn who_is_refused_is_told_when_there_is_a_token() {
    let (bucket, pace) = (Bucket::default(), Pace::new(4, SECOND, 2));
    assert_eq!(takes(&bucket, &pace, NOW), 2);
    assert_eq!(bucket.take(&pace, NOW + Duration::from_millis(100)), Err(Duration::from_millis(150)));
    assert_eq!((bucket.left(&pace, NOW), bucket.reset(&pace, NOW)), (0, Duration::from_millis(500)));
    assert_eq!(bucket.left(&pace, NOW + Duration::from_millis(260)), 1);
    bucket.give_back(&pace);
    assert!(bucket.take(&pace, NOW + Duration::from_millis(100)).is_ok());
}

#[test]
fn what_was_taken_at_a_slower_pace_does_not_outlast_it() {
    let bucket = Bucket::default();
    assert_eq!(takes(&bucket, &Pace::new(10, 3_600 * SECOND, 10), NOW), 10);
    let faster = Pace::new(100, SECOND, 100);
    assert_eq!(takes(&bucket, &faster, NOW), 0, "used up stays used up");
    assert!(takes(&bucket, &faster, NOW + SECOND) > 90);
}

#[test]
fn greatest_numbers_neither_overflow_nor_refuse() {
    let (bucket, pace) = (Bucket::default(), Pace::new(1, 3_600 * SECOND, 1_000_000_000));
    assert_eq!(takes(&bucket, &pace, NOW), 100_000);
    let (bucket, pace) = (Bucket::default(), Pace::new(1_000_000_000, SECOND, 1));
    assert!(bucket.take(&pace, NOW).is_ok() && bucket.take(&pace, NOW).is_err());
    assert!(bucket.take(&pace, NOW + Duration::from_nanos(1)).is_ok());
}
