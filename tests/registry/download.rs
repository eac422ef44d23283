//! Blobs: broken downloads, lying sizes, and many at a time.

use std::io::Read;
use std::thread;

use mydocker::oci::descriptor::Descriptor;
use mydocker::oci::digest::Digest;
use mydocker::oci::media_type::OCI_LAYER_GZIP;
use mydocker::registry::Error;

use crate::fake_registry::Fault;
use crate::{User, download, noise, reference, with_blob};

const SIZE: usize = 3 << 20;

#[test]
fn a_blob_is_a_reader_that_may_change_threads() {
    let (user, bytes) = (User::new(), noise(SIZE));
    let (fake, descriptor) = with_blob(&bytes);
    let client = user.client();
    let mut blob = client.blob(&reference(&fake, "app:v1"), &descriptor, 0).unwrap();
    let read = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut read = Vec::new();
            blob.read_to_end(&mut read).map(|_| read)
        });
        worker.join().unwrap().unwrap()
    });
    assert!(read == bytes);
    let request = fake.log().pop().unwrap();
    assert_eq!(request.header("range"), None);
    let encoding = request.header("accept-encoding");
    assert!(matches!(encoding, None | Some("identity")), "{encoding:?}");
}

#[test]
fn broken_downloads_are_resumed_where_they_stopped() {
    let (user, bytes) = (User::new(), noise(SIZE));
    let breaks: [&[Fault]; 5] = [
        &[Fault::Truncate(1 << 20), Fault::Truncate(1 << 20)],
        &[Fault::Reset(1 << 20), Fault::Reset(1 << 20)],
        &[Fault::TruncateSilently(1 << 20)],
        &[Fault::Stall(1 << 20)],
        &[Fault::Truncate(1 << 20), Fault::error(503, ""), Fault::Close],
    ];
    for faults in breaks {
        let (fake, descriptor) = with_blob(&bytes);
        let client = user.client();
        for fault in faults {
            fake.fault("blobs", 1, fault.clone());
        }
        let got = download(&client, &reference(&fake, "app:v1"), &descriptor);
        assert!(got.unwrap() == bytes, "{faults:?}");
        let ranges: Vec<_> = fake
            .log()
            .iter()
            .filter_map(|request| request.header("range").map(str::to_owned))
            .collect();
        assert!(!ranges.is_empty() && ranges.iter().all(|range| range != "bytes=0-"), "{ranges:?}");
    }
}

#[test]
fn a_registry_without_ranges_sends_it_all_again() {
    let (user, bytes) = (User::new(), noise(SIZE));
    let (fake, descriptor) = with_blob(&bytes);
    fake.fault("blobs", 9, Fault::NoRange);
    fake.fault("blobs", 1, Fault::Truncate(2 << 20));
    let got = download(&user.client(), &reference(&fake, "app:v1"), &descriptor).unwrap();
    assert!(got == bytes);
    assert_eq!(fake.count("GET", "blobs"), 2);
}

#[test]
fn a_wrong_range_is_refused() {
    let (user, bytes) = (User::new(), noise(SIZE));
    let (fake, descriptor) = with_blob(&bytes);
    let client = user.client();
    let app = reference(&fake, "app:v1");
    fake.fault("blobs", 9, Fault::WrongRange(5));
    assert!(client.blob(&app, &descriptor, 100).is_err());
    for lie in [
        format!("bytes 100-{}/{}", SIZE - 2, SIZE),
        format!("bytes 100-{}/{}", SIZE, SIZE + 1),
        "bytes */5".to_owned(),
        String::new(),
    ] {
        let (fake, descriptor) = with_blob(&bytes);
        fake.fault("blobs", 9, Fault::Header("content-range", lie.clone()));
        let blob = client.blob(&reference(&fake, "app:v1"), &descriptor, 100);
        assert!(blob.is_err(), "{lie}");
    }
}

#[test]
fn an_earlier_download_is_continued() {
    let (user, bytes) = (User::new(), noise(SIZE));
    let (fake, descriptor) = with_blob(&bytes);
    let client = user.client();
    let app = reference(&fake, "app:v1");
    for offset in [1, SIZE / 2, SIZE - 1] {
        let mut rest = Vec::new();
        let mut blob = client.blob(&app, &descriptor, offset as u64).unwrap();
        blob.read_to_end(&mut rest).unwrap();
        assert!(rest == bytes[offset..], "{offset}");
    }
    // All of it is there already.
    let asked = fake.log().len();
    let mut rest = Vec::new();
    client.blob(&app, &descriptor, SIZE as u64).unwrap().read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(fake.log().len(), asked);
}

#[test]
fn sizes_that_lie() {
    let (user, bytes) = (User::new(), noise(SIZE));
    let client = user.client();
    let digest = Digest::sha256(&bytes);
    for size in [SIZE as u64 - 1, SIZE as u64 + 1, 0, u64::MAX] {
        let (fake, _) = with_blob(&bytes);
        let lying = Descriptor::new(OCI_LAYER_GZIP, digest.clone(), size);
        let got = download(&client, &reference(&fake, "app:v1"), &lying);
        assert!(got.is_err(), "{size}");
    }
    // Without an announced length, the reader that verifies sees the surplus.
    let (fake, descriptor) = with_blob(&bytes);
    fake.fault("blobs", 1, Fault::Extend(1000));
    let error = download(&client, &reference(&fake, "app:v1"), &descriptor).unwrap_err();
    assert!(error.to_string().contains("longer"), "{error}");
    // And one who does not verify is not kept for ever.
    let (fake, descriptor) = with_blob(&bytes);
    fake.fault("blobs", 1, Fault::Endless);
    let mut blob = client.blob(&reference(&fake, "app:v1"), &descriptor, 0).unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = blob.read(&mut buffer) {
        read += count;
    }
    assert!(read <= SIZE + buffer.len(), "{read}");
}

#[test]
fn a_registry_that_always_breaks_off_is_given_up() {
    let (user, bytes) = (User::new(), noise(SIZE));
    let (fake, descriptor) = with_blob(&bytes);
    fake.fault("blobs", 1, Fault::Truncate(1000));
    fake.fault("blobs", usize::MAX, Fault::Truncate(1));
    let client = user.client();
    let mut blob = client.blob(&reference(&fake, "app:v1"), &descriptor, 0).unwrap();
    let error = blob.read_to_end(&mut Vec::new()).unwrap_err();
    let error = Error::from_read(error, &descriptor.digest);
    assert!(error.to_string().contains(&fake.host()), "{error}");
    let tries = fake.count("GET", "blobs");
    assert!((2..=10).contains(&tries), "{tries}");
}

#[test]
fn many_at_a_time() {
    let user = User::new();
    let (fake, _) = with_blob(b"");
    let client = user.client();
    let app = reference(&fake, "app:v1");
    let blobs: Vec<Vec<u8>> = (0..16).map(|n| noise(SIZE / 4 + n)).collect();
    for bytes in &blobs {
        fake.put_blob("app", bytes.clone());
    }
    fake.fault("blobs", 4, Fault::Truncate(1 << 10));
    thread::scope(|scope| {
        for bytes in &blobs {
            let (client, app) = (&client, &app);
            scope.spawn(move || {
                let descriptor = Descriptor::of(OCI_LAYER_GZIP, bytes);
                assert!(download(client, app, &descriptor).unwrap() == *bytes);
            });
        }
    });
}
