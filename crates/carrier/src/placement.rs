//! The placement table: where the pages of a RAM block are written.

use std::io;

use pages::{Head, PAGE_SIZE, Place, Printer, Run, Told};
use stream::RamBlock;
use types::BlockPlacement;

use crate::CarrierError;
use crate::memory::Memory;

/// Open memory files and what has been written to them.
pub(crate) struct Placement {
    blocks: Vec<Placed>,
}

struct Placed {
    name: String,
    file: Memory,
    offset: u64,
    length: u64,
    /// Its index in the stream, once the stream has said so.
    index: Option<u16>,
    /// One bit a page: holds something else than the zeros of a fresh file.
    touched: Vec<u64>,
}

impl Placement {
    /// Opens the files of the table.
    pub(crate) fn open(table: &[BlockPlacement]) -> Result<Self, CarrierError> {
        let mut blocks = Vec::new();
        for row in table {
            let fail = |e: &dyn ToString| {
                CarrierError::Memory(format!("{}: {}", row.file.display(), e.to_string()))
            };
            let (file, size) = Memory::open(&row.file).map_err(|e| fail(&e))?;
            let end = row.offset.checked_add(row.length);
            let whole = |n: u64| n.is_multiple_of(PAGE_SIZE as u64);
            if end.is_none_or(|end| end > size) || !whole(row.length) || !whole(row.offset) {
                return Err(fail(&"the table does not fit the file"));
            }
            blocks.push(Placed::new(&row.block, file, row.offset, row.length));
        }
        Ok(Self { blocks })
    }

    /// The files are not fresh: a page that is to be zero may hold something.
    pub(crate) fn may_hold_anything(&mut self) {
        self.blocks.iter_mut().for_each(|block| block.touched.fill(u64::MAX));
    }

    /// Pages are placed at all.
    pub(crate) fn is_used(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Names of the blocks whose pages must not be in QEMU's stream.
    pub(crate) fn names(&self) -> Vec<String> {
        self.blocks.iter().map(|b| b.name.clone()).collect()
    }

    /// Matches the table with the stream's blocks.
    pub(crate) fn bind(&mut self, stream: &[RamBlock]) -> Result<(), CarrierError> {
        for placed in &mut self.blocks {
            let found = stream.iter().position(|b| b.name == placed.name);
            let Some(index) = found else {
                return Err(CarrierError::Invalid(format!(
                    "the source's VM has no memory block {:?}; the specs of both sides differ",
                    placed.name
                )));
            };
            if stream[index].length != placed.length {
                return Err(CarrierError::Invalid(format!(
                    "memory block {:?} has {} bytes on the source and {} here",
                    placed.name, stream[index].length, placed.length
                )));
            }
            placed.index = u16::try_from(index).ok();
        }
        Ok(())
    }

    /// Writes a batch, if its block is placed; says whether it is.
    /// The batch must have been checked against the block's length.
    pub(crate) fn place(&mut self, head: &Head, data: &[u8]) -> Result<bool, CarrierError> {
        let Some(placed) = self.blocks.iter_mut().find(|b| b.index == Some(head.block)) else {
            return Ok(false);
        };
        placed.write(head, data).map_err(|e| {
            CarrierError::Memory(match e.raw_os_error() {
                Some(code) if code == rustix::io::Errno::NOSPC.raw_os_error() => {
                    "the memory file system is full; give the agent a larger memory_size or move \
                     VMs away"
                        .to_owned()
                }
                _ => e.to_string(),
            })
        })?;
        Ok(true)
    }

    /// Reads a page of a block that is placed.
    pub(crate) fn read(
        &self,
        (block, number): Place,
        page: &mut [u8; PAGE_SIZE],
    ) -> Result<(), CarrierError> {
        let Some(placed) = self.blocks.iter().find(|b| b.index == Some(block)) else {
            return Err(CarrierError::invalid("a word of pages that are not placed"));
        };
        if number.checked_mul(PAGE_SIZE as u64).is_none_or(|at| at >= placed.length) {
            return Err(CarrierError::invalid("a page beyond the end of its memory block"));
        }
        let at = placed.offset + number * PAGE_SIZE as u64;
        placed.file.read(page, at).map_err(|e| CarrierError::Memory(e.to_string()))
    }

    /// Writes a page that is told by what is here. Nothing is written unless the page that
    /// comes of it is the source's.
    pub(crate) fn tell(
        &mut self,
        (block, number): Place,
        told: &Told<'_>,
        printer: &Printer,
    ) -> Result<(), CarrierError> {
        let mut page = [0; PAGE_SIZE];
        let base = if let Told::Copy { of, .. } = *told { of } else { number };
        self.read((block, base), &mut page)?;
        told.apply(&mut page);
        if printer.check(&page) != told.check() {
            return Err(CarrierError::Memory(format!(
                "page {number} of memory block {block} is not what the source believes it to be; \
                 nothing was written; migrate again"
            )));
        }
        let data = vec![Run { first: number, pages: 1 }];
        let body = PAGE_SIZE as u32;
        let head = Head { block, kind: pages::Kind::Raw, zero: Vec::new(), data, body };
        self.place(&head, &page).map(|_| ())
    }

    /// Closes the files: nothing is placed any more.
    pub(crate) fn close(&mut self) {
        self.blocks.clear();
    }
}

impl Placed {
    fn new(name: &str, file: Memory, offset: u64, length: u64) -> Self {
        let words = (length / PAGE_SIZE as u64).div_ceil(64) as usize;
        Self { name: name.to_owned(), file, offset, length, index: None, touched: vec![0; words] }
    }

    fn write(&mut self, head: &Head, mut data: &[u8]) -> io::Result<()> {
        for run in &head.zero {
            if self.any_touched(*run) {
                self.file.clear(self.offset + run.offset(), run.bytes())?;
                self.mark(*run, false);
            }
        }
        for run in &head.data {
            let (bytes, rest) = data
                .split_at_checked(run.bytes() as usize)
                .ok_or_else(|| io::Error::other("a batch is shorter than its runs"))?;
            self.file.write(bytes, self.offset + run.offset())?;
            self.mark(*run, true);
            data = rest;
        }
        Ok(())
    }

    fn any_touched(&self, run: Run) -> bool {
        (run.first..run.end()).any(|page| {
            self.touched.get((page / 64) as usize).is_some_and(|w| w & (1 << (page % 64)) != 0)
        })
    }

    fn mark(&mut self, run: Run, touched: bool) {
        for page in run.first..run.end() {
            if let Some(word) = self.touched.get_mut((page / 64) as usize) {
                let bit = 1 << (page % 64);
                *word = if touched { *word | bit } else { *word & !bit };
            }
        }
    }
}

#[cfg(test)]
impl Placement {
    /// One block on any file, whatever its size.
    pub(crate) fn on(block: &str, file: std::fs::File, length: u64) -> Self {
        Self { blocks: vec![Placed::new(block, Memory::File(file), 0, length)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(zero: Vec<Run>, data: Vec<Run>) -> Head {
        let body = data.iter().map(|r| r.bytes() as u32).sum();
        Head { block: 0, kind: pages::Kind::Raw, zero, data, body }
    }

    #[test]
    fn zero_pages_cost_nothing_where_nothing_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        let length = 64 * PAGE_SIZE as u64;
        std::fs::write(&path, vec![5u8; 2 * length as usize]).unwrap();
        let row = BlockPlacement { block: "m".into(), file: path.clone(), offset: length, length };
        let mut placement = Placement::open(&[row]).unwrap();
        let block = |length| RamBlock { name: "m".into(), length };
        assert!(placement.bind(&[block(length + 4096)]).is_err());
        placement.bind(&[block(length)]).unwrap();
        let run = |first, pages| Run { first, pages };
        let page = |n: u64| std::fs::read(&path).unwrap()[(length + n * 4096) as usize];
        // Nothing was placed here yet, so the zeros of a fresh file are taken for granted.
        placement.place(&head(vec![run(0, 64)], vec![]), &[]).unwrap();
        assert_eq!((page(0), page(63)), (5, 5));
        placement.place(&head(vec![], vec![run(2, 2)]), &[6; 8192]).unwrap();
        assert_eq!((page(1), page(2), page(3), page(4)), (5, 6, 6, 5));
        placement.place(&head(vec![run(3, 1)], vec![]), &[]).unwrap();
        assert_eq!((page(2), page(3)), (6, 0));
        assert!(std::fs::read(&path).unwrap()[..length as usize].iter().all(|b| *b == 5));
        let other = Head { block: 1, ..head(vec![run(0, 1)], vec![]) };
        assert!(!placement.place(&other, &[]).unwrap(), "another block is not placed");
        placement.close();
        assert!(!placement.place(&head(vec![], vec![run(2, 2)]), &[7; 8192]).unwrap());
        assert_eq!(page(2), 6, "nothing is written once it is closed");
    }

    #[test]
    fn a_table_that_does_not_fit_its_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        std::fs::write(&path, vec![0; 8192]).unwrap();
        for (offset, length, fine) in [
            (0, 8192, true),
            (4096, 4096, true),
            (4096, 8192, false),
            (0, 4000, false),
            (100, 4096, false),
            (u64::MAX - 4095, 4096, false),
        ] {
            let row = BlockPlacement { block: "m".into(), file: path.clone(), offset, length };
            assert_eq!(Placement::open(&[row]).is_ok(), fine, "{offset} {length}");
        }
    }
}
