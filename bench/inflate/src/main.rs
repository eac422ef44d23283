//! How long each decoder of deflate works on a layer: `cargo run --release -- LAYER.tar.gz [ROUNDS]`; with
//! `--features zlib-ng` that one in the place of zlib-rs.
//!
//! What counts is the processor time of the process, which has one thread, so that it matters little what else the machine
//! does; the least of the rounds is shown. The layer has to be one gzip member without further header fields. All but
//! libdeflate, which cannot, decode by pieces of 256 KiB, as an unpacking pipeline does.

use std::error::Error;
use std::io::{self, Read};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The bytes that are asked for at a time.
const PIECE: usize = 256 << 10;

/// A decoder: a gzip member in, the number of bytes that came out.
type Decoder = fn(&[u8]) -> Result<u64, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: LAYER.tar.gz [ROUNDS]")?;
    let rounds: u32 = args.next().map_or(Ok(5), |text| text.parse())?;
    let packed = std::fs::read(path)?;
    if packed.get(..4) != Some(&[0x1f, 0x8b, 8, 0]) {
        return Err("it is no gzip member, or has fields in its header".into());
    }
    let decoders: &[(&str, Decoder)] = &[
        (if cfg!(feature = "zlib-ng") { "zlib-ng" } else { "zlib-rs" }, by_flate2),
        ("fdeflate", fdeflate),
        ("miniz_oxide", miniz_oxide),
        ("libdeflate, whole buffers", libdeflate),
    ];
    let mut least = vec![Duration::MAX; decoders.len()];
    let mut sizes = vec![0; decoders.len()];
    // They take turns, so that what the machine does meanwhile meets them all alike.
    for _ in 0..rounds {
        for (at, (_, decode)) in decoders.iter().enumerate() {
            let before = processor_time()?;
            sizes[at] = decode(&packed)?;
            least[at] = least[at].min(processor_time()? - before);
        }
    }
    if sizes.iter().any(|size| *size != sizes[0]) {
        return Err(format!("they do not agree: {sizes:?}").into());
    }
    println!("{} bytes, {} unpacked; least of {rounds} rounds", packed.len(), sizes[0]);
    println!("| decoder | MB/s | ratio |\n|---|---|---|");
    for ((name, _), time) in decoders.iter().zip(&least) {
        let speed = sizes[0] as f64 / 1e6 / time.as_secs_f64();
        println!("| {name} | {speed:.0} | {:.2} |", time.as_secs_f64() / least[0].as_secs_f64());
    }
    Ok(())
}

fn processor_time() -> Result<Duration, Box<dyn Error>> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

fn by_flate2(packed: &[u8]) -> Result<u64, Box<dyn Error>> {
    let mut decoder = flate2::read::GzDecoder::new(packed);
    let (mut piece, mut size) = (vec![0; PIECE], 0);
    loop {
        match decoder.read(&mut piece)? {
            0 => return Ok(size),
            count => size += count as u64,
        }
    }
}

/// The stream without header and trailer, which the others get; their checksums are not part of inflating.
fn deflated(packed: &[u8]) -> &[u8] {
    &packed[10..packed.len() - 8]
}

fn fdeflate(packed: &[u8]) -> Result<u64, Box<dyn Error>> {
    /// What is left of what was decoded, for copies of it.
    const WINDOW: usize = 32 << 10;
    let stream = [b"\x78\x9c", deflated(packed)].concat();
    let mut decoder = fdeflate::Decompressor::new();
    decoder.ignore_adler32();
    let (mut buffer, mut at, mut taken, mut size) = (vec![0; WINDOW + PIECE], 0, 0, 0);
    loop {
        let more = decoder.read(&stream[taken..], &mut buffer, at, false);
        let (input, output) = more.map_err(|error| format!("fdeflate: {error:?}"))?;
        (taken, at, size) = (taken + input, at + output, size + output as u64);
        // The checksum that belongs at the end is not there.
        if decoder.is_done() || (input == 0 && output == 0 && taken == stream.len()) {
            return Ok(size);
        }
        if at == buffer.len() {
            buffer.copy_within(at - WINDOW.., 0);
            at = WINDOW;
        }
    }
}

fn miniz_oxide(packed: &[u8]) -> Result<u64, Box<dyn Error>> {
    use miniz_oxide::inflate::stream::{InflateState, inflate};
    use miniz_oxide::{DataFormat, MZFlush, MZStatus};
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let (mut input, mut piece, mut size) = (deflated(packed), vec![0; PIECE], 0);
    loop {
        let done = inflate(&mut state, input, &mut piece, MZFlush::None);
        input = &input[done.bytes_consumed..];
        size += done.bytes_written as u64;
        match done.status {
            Ok(MZStatus::StreamEnd) => return Ok(size),
            Ok(_) => {}
            Err(error) => return Err(format!("miniz_oxide: {error:?}").into()),
        }
    }
}

fn libdeflate(packed: &[u8]) -> Result<u64, Box<dyn Error>> {
    let size = packed.last_chunk().map_or(0, |size| u32::from_le_bytes(*size));
    let mut out = vec![0; usize::try_from(size)?];
    let done = libdeflater::Decompressor::new().gzip_decompress(packed, &mut out);
    Ok(done.map_err(io::Error::other)? as u64)
}
