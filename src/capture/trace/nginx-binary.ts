/**
 * Where in nginx's executable the probes go (bpf/trace.bpf.c): offsets in the file, from its symbols. Pure, and wary: the file
 * comes from a container that may be anyone's.
 *
 * Format: ELF-64 (https://refspecs.linuxfoundation.org/elf/gabi4+/), x86-64 instructions. A probe costs much less where the kernel
 * emulates the instruction under it (push, call, jmp) than where it has to step over it (endbr64, mov, `jmp *mem`). So functions are probed behind their `endbr64`, and write(2) where it is called and not at its stub in the PLT.
 */

/** Offsets in the file. */
export interface ProbePlaces {
  readonly version: string;
  /** `ngx_chain_writer` and `ngx_http_free_request`. */
  readonly chain: number;
  readonly free: number;
  /** Each call of `write`. */
  readonly writes: readonly number[];
  /**
   * For logs that nginx buffers: where `ngx_http_free_request` calls `ngx_destroy_pool`, and how far `ngx_http_log_module` is from
   * `free` in memory (bytes). Undefined: such logs are left alone.
   */
  readonly buffered: { readonly logged: number; readonly module: number } | undefined;
}

/** Of the dynamic symbols. Its address, and its size (bytes). */
interface Symbol {
  readonly address: number;
  readonly size: number;
}

interface Section {
  readonly name: string;
  readonly address: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

const EM_X86_64 = 62;
const R_X86_64_GLOB_DAT = 6;
const R_X86_64_JUMP_SLOT = 7;
const HEADER_BYTES = 64;
const SECTION_BYTES = 64;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 24;
/** More of one kind is no nginx. */
const MAX_SECTIONS = 256;
const MAX_SYMBOLS = 100_000;
const MAX_WRITES = 64;
const ENDBR64 = Buffer.from([0xf3, 0x0f, 0x1e, 0xfa]);
const CALL = 0xe8;
const JMP = 0xe9;
/** `call *mem` and `jmp *mem`, with a displacement from the next instruction. */
const CALL_MEMORY = Buffer.from([0xff, 0x15]);
const JMP_MEMORY = Buffer.from([0xff, 0x25]);
const BND = 0xf2;

/** The version in `$nginx_version`'s neighbour, the `Server` header: of nginx itself, and of what is built from it. */
const VERSION = /(nginx|openresty|Angie|Tengine|freenginx)\/(\d+\.\d+\.\d+(?:\.\d+)?)/;
/** Versions of nginx between two whose structures are as expected: 1.22 to 1.31. */
const isKnown = (version: string): boolean => {
  const minor = /^1\.(\d+)\./.exec(version)?.[1];
  return minor !== undefined && Number(minor) >= 22 && Number(minor) <= 31;
};

/** The places, or one line that says why this file is left alone. */
export function findProbePlaces(file: Buffer): ProbePlaces | string {
  const found = VERSION.exec(versionText(file));
  if (!found) return 'it is not nginx, or does not say which version';
  const [, product, version] = found;
  if (product !== 'nginx') return `it is ${product} ${version}, which was never tried`;
  if (!isKnown(version!)) return `it is nginx ${version}, and only 1.22 to 1.31 are traced`;
  try {
    return placesIn(new Executable(file), version!);
  } catch (error) {
    if (error instanceof RangeError) return 'its ELF file is damaged';
    throw error;
  }
}

function placesIn(elf: Executable, version: string): ProbePlaces | string {
  if (!elf.isReadable) return 'it is not built for x86-64';
  const chain = elf.functionAt('ngx_chain_writer');
  const free = elf.functionAt('ngx_http_free_request');
  if (chain === undefined || free === undefined)
    return 'it has no symbols: it is linked statically, or without dynamic modules';
  const writes = elf.callsOf('write');
  if (writes.length === 0) return 'it calls write(2) in a way that is not known';
  if (writes.length > MAX_WRITES) return `it calls write(2) in ${writes.length} places`;
  return { version, chain, free, writes, buffered: bufferedIn(elf, free) };
}

function bufferedIn(elf: Executable, free: number): ProbePlaces['buffered'] {
  const module = elf.distance(free, 'ngx_http_log_module');
  const [logged, ...more] = elf.callsFrom('ngx_http_free_request', 'ngx_destroy_pool');
  return module === undefined || logged === undefined || more.length > 0 ? undefined : { logged, module };
}

/** The file around its first `…/VERSION` that is a whole text: a constant of the program. */
function versionText(file: Buffer): string {
  for (const product of ['openresty/', 'Angie/', 'Tengine/', 'freenginx/', 'nginx/']) {
    for (let at = file.indexOf(`\0${product}`); at >= 0; at = file.indexOf(`\0${product}`, at + 1)) {
      const text = file.toString('latin1', at + 1, at + 32);
      if (VERSION.test(text)) return text;
    }
  }
  return '';
}

/** Reads out of bounds throw RangeError. */
class Executable {
  readonly isReadable: boolean;
  readonly #file: Buffer;
  readonly #sections: readonly Section[];

  constructor(file: Buffer) {
    this.#file = file;
    // ELFCLASS64, little-endian.
    this.isReadable =
      file.length > HEADER_BYTES &&
      file.toString('latin1', 0, 6) === '\x7fELF\x02\x01' &&
      file.readUInt16LE(18) === EM_X86_64;
    this.#sections = this.isReadable ? this.#readSections() : [];
  }

  /** Where the function begins, behind an `endbr64`. */
  functionAt(name: string): number | undefined {
    const text = this.#section('.text');
    const { address } = this.#symbol(name) ?? {};
    if (!text || address === undefined || !isWithin(text, address)) return undefined;
    const offset = address - text.address + text.offset;
    return this.#has(offset, ENDBR64) ? offset + ENDBR64.length : offset;
  }

  /** How far the symbol is in memory from what is at this offset of `.text`. */
  distance(from: number, name: string): number | undefined {
    const text = this.#section('.text');
    const { address } = this.#symbol(name) ?? {};
    return text && address !== undefined ? address - (from - text.offset + text.address) : undefined;
  }

  /** Where one function of the executable calls another one, or goes on with it. */
  callsFrom(caller: string, callee: string): number[] {
    const text = this.#section('.text');
    const from = this.#symbol(caller);
    const to = this.#symbol(callee);
    if (!text || !from || !to || !isWithin(text, from.address) || !isWithin(text, from.address + from.size))
      return [];
    const begin = from.address - text.address + text.offset;
    const calls: number[] = [];
    for (let at = begin; at + 5 <= begin + from.size; at++) {
      const code = this.#file[at]!;
      if (code !== CALL && code !== JMP) continue;
      if (at - text.offset + text.address + 5 + this.#file.readInt32LE(at + 1) === to.address) calls.push(at);
    }
    return calls;
  }

  /** Where the imported function is called: by its stubs in the PLT, or by its slot in the GOT (`-fno-plt`). */
  callsOf(name: string): number[] {
    const text = this.#section('.text');
    const slots = new Set(this.#slotsOf(name));
    if (!text || slots.size === 0) return [];
    const stubs = new Set(this.#stubsOf(slots));
    const calls: number[] = [];
    const end = text.offset + text.size;
    for (let at = text.offset; at + 6 <= end; at++) {
      const address = at - text.offset + text.address;
      const code = this.#file[at]!;
      if (code === CALL || code === JMP) {
        if (stubs.has(address + 5 + this.#file.readInt32LE(at + 1))) calls.push(at);
      } else if (code === CALL_MEMORY[0] && this.#has(at, CALL_MEMORY)) {
        if (slots.has(address + 6 + this.#file.readInt32LE(at + 2))) calls.push(at);
      }
    }
    return calls;
  }

  #symbol(name: string): Symbol | undefined {
    const symbols = this.#section('.dynsym');
    const names = symbols && this.#sections[symbols.link];
    if (!names) return undefined;
    const count = Math.min(MAX_SYMBOLS, Math.floor(symbols.size / SYMBOL_BYTES));
    for (let i = 0; i < count; i++) {
      const at = symbols.offset + i * SYMBOL_BYTES;
      const address = this.#word(at + 8);
      if (address > 0 && this.#isNamed(names, this.#file.readUInt32LE(at), name))
        return { address, size: this.#word(at + 16) };
    }
    return undefined;
  }

  /** Addresses of the words that the dynamic linker fills with the function's address. */
  *#slotsOf(name: string): Generator<number> {
    const symbols = this.#section('.dynsym');
    const names = symbols && this.#sections[symbols.link];
    if (!names) return;
    for (const section of ['.rela.plt', '.rela.dyn'].map((each) => this.#section(each))) {
      if (!section) continue;
      const count = Math.min(MAX_SYMBOLS, Math.floor(section.size / RELOCATION_BYTES));
      for (let i = 0; i < count; i++) {
        const at = section.offset + i * RELOCATION_BYTES;
        const type = this.#file.readUInt32LE(at + 8);
        if (type !== R_X86_64_JUMP_SLOT && type !== R_X86_64_GLOB_DAT) continue;
        const symbol = symbols.offset + this.#file.readUInt32LE(at + 12) * SYMBOL_BYTES;
        if (this.#isNamed(names, this.#file.readUInt32LE(symbol), name)) yield this.#word(at);
      }
    }
  }

  /** Addresses that code jumps to for a function: `jmp *slot`, after an `endbr64` or a `bnd` where there is one. */
  *#stubsOf(slots: ReadonlySet<number>): Generator<number> {
    for (const name of ['.plt', '.plt.sec', '.plt.got']) {
      const section = this.#section(name);
      if (!section) continue;
      const end = section.offset + section.size;
      for (let at = section.offset; at + 6 <= end; at++) {
        const address = at - section.offset + section.address;
        if (!this.#has(at, JMP_MEMORY)) continue;
        if (!slots.has(address + 6 + this.#file.readInt32LE(at + 2))) continue;
        const bound = at > section.offset && this.#file[at - 1] === BND ? 1 : 0;
        const before = at - bound - ENDBR64.length;
        const marked = before >= section.offset && this.#has(before, ENDBR64) ? ENDBR64.length : 0;
        yield address - bound - marked;
      }
    }
  }

  #readSections(): Section[] {
    const file = this.#file;
    const table = this.#word(40);
    const count = file.readUInt16LE(60);
    const namesAt = file.readUInt16LE(62);
    if (file.readUInt16LE(58) !== SECTION_BYTES || count > MAX_SECTIONS || namesAt >= count) return [];
    const raw = Array.from({ length: count }, (_, i) => {
      const at = table + i * SECTION_BYTES;
      return {
        nameAt: file.readUInt32LE(at),
        address: this.#word(at + 16),
        offset: this.#word(at + 24),
        size: this.#word(at + 32),
        link: file.readUInt32LE(at + 40),
      };
    });
    const names = raw[namesAt]!;
    return raw.map((section) => ({ ...section, name: this.#text(names.offset + section.nameAt) }));
  }

  #section(name: string): Section | undefined {
    const section = this.#sections.find((each) => each.name === name);
    // All of it has to be in the file.
    if (section && section.offset + section.size > this.#file.length) throw new RangeError(name);
    return section;
  }

  #isNamed(names: Section, at: number, name: string): boolean {
    return this.#has(names.offset + at, Buffer.from(`${name}\0`, 'latin1'));
  }

  #has(at: number, bytes: Buffer): boolean {
    return (
      at + bytes.length <= this.#file.length &&
      this.#file.compare(bytes, 0, bytes.length, at, at + bytes.length) === 0
    );
  }

  /** A text of at most 64 bytes. */
  #text(at: number): string {
    const end = this.#file.indexOf(0, at);
    return end < 0 || end - at > 64 ? '' : this.#file.toString('latin1', at, end);
  }

  /** 64 bits. Values beyond 2^53 are no offset in a file. */
  #word(at: number): number {
    return Number(this.#file.readBigUInt64LE(at));
  }
}

const isWithin = ({ address, size }: Section, at: number): boolean => at >= address && at < address + size;
