const BASE = 0x40_0000;
const ENDBR64 = [0xf3, 0x0f, 0x1e, 0xfa];

export interface Options {
  version?: string;
  /** Functions begin with an `endbr64`. */
  marked?: boolean;
  /** How `write` is called: by the stubs of `.plt`, of `.plt.sec` (with `endbr64` and `bnd`), or by its word in the GOT. */
  calls?: '.plt' | '.plt.sec' | 'got';
  without?: string;
  machine?: number;
  /** How often `ngx_http_free_request` calls `ngx_destroy_pool`. Default 1. */
  destroys?: number;
}

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return [...bytes];
};

/** An ELF file with what is looked at, and no more. Each section's address is its offset and `BASE`. */
export function executable({
  version = 'nginx/1.22.1',
  marked = false,
  calls = '.plt',
  without,
  machine = 62,
  destroys = 1,
}: Options = {}) {
  const names = [
    'ngx_chain_writer',
    'ngx_http_free_request',
    'write',
    'read',
    'ngx_destroy_pool',
    'ngx_http_log_module',
  ].map((name) => (name === without ? 'other' : name));
  const strings = Buffer.from(`\0${names.join('\0')}\0`);
  const at = (name: string) => strings.indexOf(`\0${name}\0`) + 1;
  const starts = {
    '.text': 0x200,
    '.plt': 0x600,
    '.dynsym': 0x800,
    '.dynstr': 0xa00,
    '.rela.plt': 0xc00,
    '.rodata': 0xe00,
    names: 0xf00,
  };
  const GOT = BASE + 0x5000;
  const head = marked ? ENDBR64 : [];
  const file = Buffer.alloc(0x1800);
  const put = (offset: number, bytes: readonly number[] | Buffer) => Buffer.from(bytes).copy(file, offset);
  const text = starts['.text'];
  put(text, [...head, 0x41, 0x57]);
  put(text + 0x40, [...head, 0x55]);
  const stub = starts['.plt'] + 0x20;
  if (calls === '.plt') put(stub, [0xff, 0x25, ...u32(GOT - (BASE + stub + 6))]);
  if (calls === '.plt.sec') put(stub, [...ENDBR64, 0xf2, 0xff, 0x25, ...u32(GOT - (BASE + stub + 11))]);
  for (const [place, code] of [
    [text + 0x80, 0xe8],
    [text + 0x90, 0xe9],
  ] as const)
    put(
      place,
      calls === 'got' ? [0xff, 0x15, ...u32(GOT - (BASE + place + 6))] : [code, ...u32(stub - (place + 5))],
    );
  for (let i = 0; i < destroys; i++)
    put(text + 0x50 + 8 * i, [0xe8, ...u32(text + 0x180 - (text + 0x50 + 8 * i + 5))]);
  // A call of something else.
  put(text + 0xa0, [0xe8, ...u32(stub + 0x10 - (text + 0xa5))]);
  names.forEach((name, i) => {
    const symbol = starts['.dynsym'] + 24 * (i + 1);
    file.writeUInt32LE(at(name), symbol);
    const address = [text, text + 0x40, -BASE, -BASE, text + 0x180, 0x5800][i]!;
    file.writeBigUInt64LE(BigInt(BASE + address), symbol + 8);
    file.writeBigUInt64LE(i === 1 ? 0x40n : 8n, symbol + 16);
  });
  put(starts['.dynstr'], strings);
  file.writeBigUInt64LE(BigInt(GOT), starts['.rela.plt']);
  file.writeUInt32LE(7, starts['.rela.plt'] + 8);
  file.writeUInt32LE(3, starts['.rela.plt'] + 12);
  put(starts['.rodata'], Buffer.from(`\0${version}\0`));
  const sections: [string, number, number, number][] = [
    ['', 0, 0, 0],
    ['.text', text, 0x200, 0],
    [calls === '.plt.sec' ? '.plt.sec' : '.plt', starts['.plt'], 0x100, 0],
    ['.dynsym', starts['.dynsym'], 24 * 7, 4],
    ['.dynstr', starts['.dynstr'], strings.length, 0],
    ['.rela.plt', starts['.rela.plt'], 24, 0],
    ['.rodata', starts['.rodata'], 0x40, 0],
    ['.shstrtab', starts.names, 0x100, 0],
  ];
  let nameAt = 1;
  sections.forEach(([name, offset, size, link], i) => {
    const header = 0x1000 + 64 * i;
    put(starts.names + nameAt, Buffer.from(`${name}\0`));
    file.writeUInt32LE(nameAt, header);
    nameAt += name.length + 1;
    file.writeBigUInt64LE(BigInt(offset === 0 ? 0 : BASE + offset), header + 16);
    file.writeBigUInt64LE(BigInt(offset), header + 24);
    file.writeBigUInt64LE(BigInt(size), header + 32);
    file.writeUInt32LE(link, header + 40);
  });
  put(0, Buffer.from('\x7fELF\x02\x01', 'latin1'));
  file.writeUInt16LE(machine, 18);
  file.writeBigUInt64LE(0x1000n, 40);
  file.writeUInt16LE(64, 58);
  file.writeUInt16LE(sections.length, 60);
  file.writeUInt16LE(sections.length - 1, 62);
  return file;
}
