//! FAT32 with a single file in it: the EFI system partition.
//!
//! Our own writer, because the volume is written once and front to back: no clock gets into it, and the file's clusters
//! follow one another, so the firmware reads it in one run. Format: Microsoft's FAT specification 1.03, "fatgen103".

use crate::error::{Blame, Fault, Kind, Result};
use std::io::{Seek, SeekFrom, Write};

const SECTOR: u64 = 512;
/// Sectors before the first allocation table.
const RESERVED: u64 = 32;
/// Below this many clusters a volume is FAT16 by definition; a little more keeps off-by-one readers out of trouble.
const MIN_CLUSTERS: u64 = 65_525 + 16;
/// The end of a chain.
const END: u32 = 0x0fff_ffff;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;

/// A volume to write.
#[derive(Debug, Clone, Copy)]
pub struct Volume<'a> {
    /// Of the volume, in bytes; a multiple of 512.
    pub size: u64,
    /// Where the partition starts on its disk, in bytes.
    pub offset: u64,
    /// The volume's serial number.
    pub serial: u32,
    /// Every time stamp, in seconds since 1970; before 1980 counts as 1980.
    pub epoch: u64,
    /// The file's path: upper-case names of at most eight and three characters, each but the last a directory.
    pub path: &'a [&'a str],
    /// The file's content.
    pub content: &'a [u8],
}

/// How a volume of some size is divided.
struct Geometry {
    sectors: u64,
    per_cluster: u64,
    fat_sectors: u64,
    clusters: u64,
}

impl Geometry {
    fn of(size: u64) -> Self {
        let sectors = size / SECTOR;
        let with = |per_cluster: u64| {
            // The specification's own formula: it may waste a few sectors and never falls short.
            let fat_sectors = sectors.saturating_sub(RESERVED).div_ceil((256 * per_cluster + 2) / 2);
            let clusters = sectors.saturating_sub(RESERVED + 2 * fat_sectors) / per_cluster;
            Self { sectors, per_cluster, fat_sectors, clusters }
        };
        // The largest clusters that still make it FAT32, up to a page: fewer table entries for the firmware to follow.
        let all = [8, 4, 2].into_iter().map(with);
        all.into_iter().find(|geometry| geometry.clusters >= MIN_CLUSTERS).unwrap_or_else(|| with(1))
    }

    fn cluster_bytes(&self) -> u64 {
        self.per_cluster * SECTOR
    }

    fn offset(&self, cluster: u64) -> u64 {
        (RESERVED + 2 * self.fat_sectors + (cluster - 2) * self.per_cluster) * SECTOR
    }
}

/// Writes a volume over a stream that holds only zeros, from its position 0 on; equal volumes give equal bytes.
///
/// # Errors
/// [`Kind::Build`] when the size is none of FAT32, the file does not fit or a name is not 8.3; [`Kind::Environment`]
/// when writing fails.
pub fn write(volume: &Volume<'_>, out: &mut (impl Write + Seek)) -> Result<()> {
    let geometry = Geometry::of(volume.size);
    let dirs = volume.path.len() as u64; // the root directory, and all names but the last
    let file_clusters = (volume.content.len() as u64).div_ceil(geometry.cluster_bytes());
    let used = dirs + file_clusters;
    let unfit = |why: String| Fault::new(Kind::Build, format!("writing the EFI system partition: {why}"));
    if geometry.clusters < MIN_CLUSTERS || geometry.sectors > u64::from(u32::MAX) {
        return Err(unfit(format!("{} bytes are no size for FAT32", volume.size)).into());
    }
    if used > geometry.clusters {
        return Err(unfit(format!("{} bytes do not fit into {}", volume.content.len(), volume.size)).into());
    }
    let mut put = |offset: u64, bytes: &[u8]| {
        let doing = || "writing the EFI system partition".to_owned();
        out.seek(SeekFrom::Start(offset)).blame(Kind::Environment, doing)?;
        out.write_all(bytes).blame(Kind::Environment, doing)
    };
    let boot = boot_sector(volume, &geometry);
    let info = info_sector(geometry.clusters - used, 2 + used);
    for copy in [0, 6] {
        put(copy * SECTOR, &boot)?;
        put((copy + 1) * SECTOR, &info)?;
    }
    let table = table(dirs, file_clusters);
    for copy in 0..2 {
        put((RESERVED + copy * geometry.fat_sectors) * SECTOR, &table)?;
    }
    for (at, name) in volume.path.iter().enumerate() {
        let name = short_name(name).ok_or_else(|| unfit(format!("`{name}` is no 8.3 name")))?;
        let own = 2 + at as u64;
        let is_file = at + 1 == volume.path.len();
        let (kind, size) = if is_file { (ARCHIVE, volume.content.len()) } else { (DIRECTORY, 0) };
        // An empty file has no cluster; a directory below the root names it as cluster 0.
        let child = if is_file && size == 0 { 0 } else { own + 1 };
        let mut entries = Vec::new();
        if at > 0 {
            entries.extend(entry(b".          ", DIRECTORY, own, 0, volume.epoch)?);
            entries.extend(entry(b"..         ", DIRECTORY, if at == 1 { 0 } else { own - 1 }, 0, volume.epoch)?);
        }
        entries.extend(entry(&name, kind, child, size, volume.epoch)?);
        put(geometry.offset(own), &entries)?;
    }
    put(geometry.offset(2 + dirs), volume.content)
}

/// The allocation table: one cluster for each directory, then the file's in a row.
fn table(dirs: u64, file_clusters: u64) -> Vec<u8> {
    let first = 2 + dirs;
    let last = (first + file_clusters).saturating_sub(1);
    let reserved = [0x0fff_fff8, END];
    let dirs = (0..dirs).map(|_| END);
    #[expect(clippy::cast_possible_truncation, reason = "a volume has under 2^32 sectors, which `write` has checked")]
    let file = (first..first + file_clusters).map(|cluster| if cluster == last { END } else { cluster as u32 + 1 });
    reserved.into_iter().chain(dirs).chain(file).flat_map(u32::to_le_bytes).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "`write` has checked the number of sectors; a disk is under 2 TiB")]
fn boot_sector(volume: &Volume<'_>, geometry: &Geometry) -> [u8; 512] {
    let mut out = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x58, 0x90]);
    put(3, b"NODELITH");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[geometry.per_cluster as u8]);
    put(14, &(RESERVED as u16).to_le_bytes());
    put(16, &[2]); // tables
    put(21, &[0xf8]); // a fixed disk
    put(24, &[63, 0, 255, 0]); // sectors and heads of a disk that nobody addresses so any more
    put(28, &((volume.offset / SECTOR) as u32).to_le_bytes());
    put(32, &(geometry.sectors as u32).to_le_bytes());
    put(36, &(geometry.fat_sectors as u32).to_le_bytes());
    put(44, &2u32.to_le_bytes()); // the root directory's cluster
    put(48, &[1, 0, 6, 0]); // the info sector, the copy of this one
    put(64, &[0x80, 0, 0x29]);
    put(67, &volume.serial.to_le_bytes());
    put(71, b"NO NAME    FAT32   ");
    put(510, &[0x55, 0xaa]);
    out
}

#[expect(clippy::cast_possible_truncation, reason = "`write` has checked the number of sectors")]
fn info_sector(free: u64, next: u64) -> [u8; 512] {
    let mut out = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RRaA");
    put(484, b"rrAa");
    put(488, &(free as u32).to_le_bytes());
    put(492, &(next as u32).to_le_bytes());
    put(510, &[0x55, 0xaa]);
    out
}

fn entry(name: &[u8; 11], kind: u8, cluster: u64, size: usize, epoch: u64) -> Result<[u8; 32]> {
    let cluster = u32::try_from(cluster)?.to_le_bytes();
    let (date, time) = stamp(epoch);
    let mut out = [0; 32];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(11, &[kind]);
    for at in [14, 22] {
        put(at, &time.to_le_bytes());
        put(at + 2, &date.to_le_bytes());
    }
    put(18, &date.to_le_bytes());
    put(20, &cluster[2..]);
    put(26, &cluster[..2]);
    put(28, &u32::try_from(size)?.to_le_bytes());
    Ok(out)
}

/// A name as directory entries hold it.
fn short_name(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let plain = |part: &str| part.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || b"-_".contains(&c));
    let fits = !base.is_empty() && base.len() <= 8 && extension.len() <= 3 && plain(base) && plain(extension);
    fits.then(|| {
        let mut out = [b' '; 11];
        out[..base.len()].copy_from_slice(base.as_bytes());
        out[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
        out
    })
}

/// Date and time as FAT has them, in UTC.
#[expect(clippy::cast_possible_truncation, reason = "each part is bounded by the calendar")]
fn stamp(epoch: u64) -> (u16, u16) {
    let (days, seconds) = (epoch / 86_400, epoch % 86_400);
    // Civil date of a day number, counted in years that start on 1 March (Howard Hinnant, "chrono-compatible dates").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    match year {
        ..1980 => ((1 << 5) | 1, 0),
        2108.. => ((127 << 9) | (12 << 5) | 31, 0),
        _ => {
            let date = ((year - 1980) << 9) | (month << 5) | day;
            let time = ((seconds / 3600) << 11) | ((seconds / 60 % 60) << 5) | (seconds % 60 / 2);
            (date as u16, time as u16)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hadris_fat::{FatVolume, FatVolumeReadExt as _};
    use std::io::Cursor;

    fn volume(content: &[u8]) -> Volume<'_> {
        let path = &["EFI", "BOOT", "BOOTX64.EFI"];
        Volume { size: 40 << 20, offset: 1 << 20, serial: 0x1234_5678, epoch: 1_709_211_599, path, content }
    }

    fn written(volume: &Volume<'_>) -> Vec<u8> {
        let mut out = vec![0; volume.size as usize];
        write(volume, &mut Cursor::new(&mut out[..])).unwrap();
        out
    }

    #[test]
    fn another_reader_finds_the_file() {
        for len in [0, 1, 511, 512, 513, 5_000_003] {
            let content: Vec<u8> = (0..len).map(|at: usize| (at * 7 + at / 255) as u8).collect();
            let bytes = written(&volume(&content));
            let fs = FatVolume::open(Cursor::new(bytes)).unwrap();
            assert_eq!(fs.volume_info().volume_id(), 0x1234_5678);
            let entry = fs.root_dir().find("EFI").unwrap().unwrap();
            let entry = fs.open_dir_entry(&entry).unwrap().find("BOOT").unwrap().unwrap();
            let entry = fs.open_dir_entry(&entry).unwrap().find("BOOTX64.EFI").unwrap().unwrap();
            let mut reader = fs.read_file(&entry).unwrap();
            let (mut found, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                let n = reader.read(&mut buffer).unwrap();
                found.extend_from_slice(&buffer[..n]);
                if n == 0 {
                    break;
                }
            }
            assert!(found == content, "{len} bytes came back as {}", found.len());
        }
    }

    #[test]
    fn dates_are_of_the_calendar() {
        let read = |epoch| {
            let (date, time) = stamp(epoch);
            let date = (1980 + (date >> 9), (date >> 5) & 15, date & 31);
            (date, (time >> 11, (time >> 5) & 63, (time & 31) * 2))
        };
        assert_eq!(read(0), ((1980, 1, 1), (0, 0, 0)));
        assert_eq!(read(1_709_211_599), ((2024, 2, 29), (12, 59, 58)));
        assert_eq!(read(1_735_689_599), ((2024, 12, 31), (23, 59, 58)));
        assert_eq!(read(5_000_000_000).0, (2107, 12, 31));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |volume: Volume<'_>| {
            let mut out = Cursor::new(vec![0; volume.size as usize]);
            assert_eq!(crate::error::kind_of(&write(&volume, &mut out).unwrap_err()), Kind::Build);
        };
        let big = vec![0; 41 << 20];
        refused(volume(&big));
        refused(Volume { size: 16 << 20, ..volume(b"") });
        for name in ["lower", "TOOLONGNAME", "A.LONG", "", "A B"] {
            refused(Volume { path: &[name], ..volume(b"") });
        }
    }
}
