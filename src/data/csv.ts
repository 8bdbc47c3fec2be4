// Splits a CSV record into its fields (RFC 4180).

/**
 * The fields of one record, as delimited by the scanner. SyntaxError for text between the closing quote of a field and the next
 * delimiter.
 */
export function csvFields(record: string, delimiter: string): string[] {
  const text = record.endsWith('\r') ? record.slice(0, -1) : record;
  const fields: string[] = [];
  for (let at = 0; at <= text.length; ) {
    if (text[at] !== '"') {
      const next = text.indexOf(delimiter, at);
      const end = next < 0 ? text.length : next;
      fields.push(text.slice(at, end));
      at = end + 1;
      continue;
    }
    let end = at + 1;
    for (; ; end += 2) {
      end = text.indexOf('"', end);
      if (end < 0) throw new SyntaxError('expected a closing quote of the field');
      if (text[end + 1] !== '"') break;
    }
    if (end + 1 < text.length && text[end + 1] !== delimiter) {
      throw new SyntaxError(
        `expected ${JSON.stringify(delimiter)} after the closing quote of field ${fields.length + 1}`,
      );
    }
    fields.push(text.slice(at + 1, end).replaceAll('""', '"'));
    at = end + 2;
  }
  return fields;
}
