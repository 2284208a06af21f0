//! Puts QEMU's stream together again, without the pages that were placed, and
//! checks it before QEMU sees it.

use pages::{Head, Kind, MAX_PAGES, PAGE_SIZE, PageError, Printer, Unpacker, read_rows};
use stream::{Content, Decoder, Encoder, Item, Limits, Mark, Page, Step};

use crate::CarrierError;
use crate::placement::Placement;

pub(super) struct Writer {
    placement: Placement,
    unpacker: Unpacker,
    printer: Printer,
    encoder: Encoder,
    /// Reads what goes to QEMU as QEMU will.
    check: Decoder,
    /// Put together, not yet checked.
    made: Vec<u8>,
    /// Checked, to be written.
    out: Vec<u8>,
    opaque: bool,
}

impl Writer {
    pub(super) fn new(placement: Placement, printer: Printer) -> Result<Self, CarrierError> {
        let limits = Limits { without_pages: placement.names(), ..Limits::default() };
        Ok(Self {
            placement,
            unpacker: Unpacker::new().map_err(|e| CarrierError::Qemu(e.to_string()))?,
            printer,
            encoder: Encoder::new(),
            check: Decoder::new(limits),
            made: Vec::new(),
            out: Vec::new(),
            opaque: false,
        })
    }

    /// Bytes of the stream that travelled as they are.
    pub(super) fn verbatim(&mut self, bytes: &[u8]) -> Result<(), CarrierError> {
        self.encoder.verbatim(bytes, &mut self.made);
        self.check()
    }

    /// A batch of pages: into the memory file, or into the stream.
    pub(super) fn pages(&mut self, payload: &[u8]) -> Result<(), CarrierError> {
        let (head, body) = Head::read(payload).map_err(CarrierError::invalid)?;
        self.in_bounds(&head)?;
        if matches!(head.kind, Kind::Copies | Kind::Changes) {
            return self.rows(&head, body);
        }
        let data = self.unpacker.unpack(&head, body).map_err(CarrierError::invalid)?;
        if self.placement.place(&head, data)? {
            return Ok(());
        }
        let (block, mut data) = (head.block, data);
        let encoder = &mut self.encoder;
        for run in &head.zero {
            for page in run.first..run.end() {
                let offset = page * PAGE_SIZE as u64;
                let page = Page { block, offset, content: Content::Zero };
                encoder.page(page, &mut self.made).map_err(CarrierError::invalid)?;
            }
        }
        for run in &head.data {
            for page in run.first..run.end() {
                let (bytes, rest) = data
                    .split_at_checked(PAGE_SIZE)
                    .ok_or_else(|| CarrierError::invalid("a batch is shorter than its runs"))?;
                let offset = page * PAGE_SIZE as u64;
                let page = Page { block, offset, content: Content::Raw(bytes) };
                encoder.page(page, &mut self.made).map_err(CarrierError::invalid)?;
                data = rest;
            }
        }
        self.check()
    }

    fn in_bounds(&self, head: &Head) -> Result<(), CarrierError> {
        let Some(block) = self.check.blocks().get(usize::from(head.block)) else {
            return Err(CarrierError::invalid("pages of a memory block that does not exist"));
        };
        if !head.fits(block.length) {
            return Err(CarrierError::invalid("pages beyond the end of their memory block"));
        }
        Ok(())
    }

    /// Pages that are told by what is here already.
    fn rows(&mut self, head: &Head, body: &[u8]) -> Result<(), CarrierError> {
        let Self { placement, unpacker, printer, .. } = self;
        let rows = unpacker.unpack_rows(head, body).map_err(CarrierError::invalid)?;
        let mut failed = None;
        let read = read_rows(head, rows, |number, told| {
            placement.tell((head.block, number), &told, printer).map_err(|error| {
                failed = Some(error);
                PageError::Head("a page that cannot be made")
            })
        });
        failed.map_or(read.map_err(CarrierError::invalid), Err)
    }

    /// Fingerprints of the pages that a question names.
    pub(super) fn answer(
        &mut self,
        question: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CarrierError> {
        let (head, rest) = Head::read(question).map_err(CarrierError::invalid)?;
        self.in_bounds(&head)?;
        if !rest.is_empty() || !head.data.is_empty() || head.zero_pages() > MAX_PAGES {
            return Err(CarrierError::invalid("a malformed question"));
        }
        let mut page = [0; PAGE_SIZE];
        for number in head.zero.iter().flat_map(|run| run.first..run.end()) {
            self.placement.read((head.block, number), &mut page)?;
            self.printer.prints(&page).write(out);
        }
        Ok(())
    }

    /// Bytes after the seal, or of a stream nobody looks into.
    pub(super) fn tail(&mut self, bytes: &[u8]) {
        self.out.append(&mut self.made);
        self.out.extend_from_slice(bytes);
    }

    /// From here on bytes only pass; nothing was taken out of what came before.
    pub(super) fn go_opaque(&mut self) {
        self.opaque = true;
        self.out.append(&mut self.made);
        self.placement.close();
    }

    /// No page is placed any more.
    pub(super) fn close(&mut self) {
        self.placement.close();
    }

    /// What is ready for QEMU.
    pub(super) fn out(&self) -> &[u8] {
        &self.out
    }

    /// It was written.
    pub(super) fn written(&mut self) {
        self.out.clear();
    }

    fn check(&mut self) -> Result<(), CarrierError> {
        let mut used = 0;
        let mut bind = false;
        loop {
            match self.check.next(&self.made[used..]).map_err(CarrierError::invalid)? {
                Step::More(_) => break,
                Step::Item(n, item) => {
                    used += n;
                    match item {
                        Item::Verbatim { mark: Some(Mark::Blocks), .. } => bind = true,
                        Item::Opaque { .. } | Item::Tail(_) => {
                            // The source says so too, with its next frame.
                            used = self.made.len();
                        }
                        _ => {}
                    }
                }
            }
            if bind {
                bind = false;
                self.placement.bind(self.check.blocks())?;
                self.encoder.set_blocks(self.check.blocks(), self.check.page_size());
            }
            if used >= self.made.len() {
                break;
            }
        }
        self.out.extend_from_slice(&self.made[..used]);
        self.made.drain(..used);
        Ok(())
    }
}
