// A separate process that converts a Parquet file into rows with random access, each serialised by V8, which preserves
// bigints, dates and bytes. Arguments: the Parquet file and the file to write. Standard output: the lengths of the rows, as unsigned
// 32-bit integers in the machine's byte order.

import fs from 'node:fs';
import { serialize } from 'node:v8';
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

const [source, target] = process.argv.slice(2);

/** A file of the file system in hyparquet's interface. */
function asyncBuffer(path: string): AsyncBuffer {
  const file = fs.openSync(path, 'r');
  const byteLength = fs.fstatSync(file).size;
  return {
    byteLength,
    slice(start, end = byteLength) {
      const bytes = new Uint8Array(end - start);
      for (let done = 0; done < bytes.length; ) {
        const count = fs.readSync(file, bytes, done, bytes.length - done, start + done);
        if (count === 0) throw new Error('the file was shortened while it was read');
        done += count;
      }
      return bytes.buffer;
    },
  };
}

/** Invalid UTF-8 is an error, as in the other formats. */
const decoder = new TextDecoder('utf-8', { fatal: true });
const parsers = { stringFromBytes: (bytes: Uint8Array | undefined) => bytes && decoder.decode(bytes) };

const file = asyncBuffer(source);
const metadata = await parquetMetadataAsync(file, { parsers });
const out = fs.openSync(target, 'w');
let first = 0;
for (const { num_rows: count } of metadata.row_groups) {
  const next = first + Number(count);
  // One row group at a time, which is the unit that Parquet files are read in.
  const rows = await parquetReadObjects({ file, metadata, compressors, parsers, rowStart: first, rowEnd: next });
  const lengths = new Uint32Array(rows.length);
  for (const [i, row] of rows.entries()) {
    const bytes = serialize(row);
    for (let done = 0; done < bytes.length; ) done += fs.writeSync(out, bytes, done);
    lengths[i] = bytes.length;
  }
  const bytes = new Uint8Array(lengths.buffer);
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(1, bytes, done);
  first = next;
}
fs.closeSync(out);
