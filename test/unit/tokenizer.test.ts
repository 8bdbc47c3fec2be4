// Text to ids and back, like Python's tokenizers with the same files, and errors.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { HuggingFaceTokenizer } from '../../src/text/hugging-face-tokenizer.js';
import { readTokenDecoder } from '../../src/text/token-decoder.js';
import { temporaryFolder } from '../support/trainer.js';

interface Cases {
  encode: [text: string, ids: number[]][];
  decode: [ids: number[], text: string][];
}

const golden: Cases & { tokenizer: Record<string, unknown>; stories: Cases } = JSON.parse(
  fs.readFileSync(join(import.meta.dirname, '../golden/tokenizers.json'), 'utf8'),
);

const settings = { eos_token: '<|end|>', pad_token: { content: '<|pad|>' }, bos_token: '<|begin|>' };

/** A folder with the golden tokenizer and additional files. */
function folderOf(t: TestContext, files: Record<string, unknown> = {}): string {
  const folder = temporaryFolder(t);
  const all = { 'tokenizer.json': golden.tokenizer, 'tokenizer_config.json': settings, ...files };
  for (const [name, value] of Object.entries(all)) {
    if (value !== undefined)
      fs.writeFileSync(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));
  }
  return folder;
}

async function checkCases(tokenizer: HuggingFaceTokenizer, { encode, decode }: Cases): Promise<void> {
  for (const addSpecialTokens of [true, false]) {
    const own = encode.filter((_, i) => (i % 2 === 0) === addSpecialTokens);
    const ids = await tokenizer.encode(
      own.map(([text]) => text),
      { addSpecialTokens },
    );
    for (const [i, [text, expected]] of own.entries()) assert.deepEqual([...ids[i]], expected, JSON.stringify(text));
  }
  for (const [i, [ids, text]] of decode.entries()) {
    assert.equal(tokenizer.decode(ids, { skipSpecialTokens: i % 2 === 0 }), text, String(ids));
  }
}

test('ids and texts are those of Python: bytes as letters', async (t) => {
  const tokenizer = await HuggingFaceTokenizer.load(folderOf(t), { encoder: 'javascript' });
  await checkCases(tokenizer, golden);
});

const stories = join(import.meta.dirname, '../../../shared/models/stories260k');

test('ids and texts are those of Python: words and single bytes', {
  skip: fs.existsSync(stories) ? false : `${stories} is missing`,
}, async () => {
  const tokenizer = await HuggingFaceTokenizer.load(stories, { encoder: 'javascript' });
  await checkCases(tokenizer, golden.stories);
  assert.deepEqual([tokenizer.vocabularySize, tokenizer.endTokens, tokenizer.paddingToken], [512, [2], null]);
});

test('parts of a stream add up to the whole, and characters are never split', async (t) => {
  const tokenizer = await HuggingFaceTokenizer.load(folderOf(t), { encoder: 'javascript' });
  const ids = fc.array(fc.integer({ min: -2, max: tokenizer.vocabularySize + 2 }), { maxLength: 20 });
  fc.assert(
    fc.property(ids, fc.boolean(), (given, skipSpecialTokens) => {
      const stream = tokenizer.stream({ skipSpecialTokens });
      const parts = given.map((id) => stream.push(id));
      assert.equal(parts.join('') + stream.end(), tokenizer.decode(given, { skipSpecialTokens }));
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'grapheme', maxLength: 20 }), async (text) => {
      const [encoded] = await tokenizer.encode([text], { addSpecialTokens: false });
      const stream = tokenizer.stream();
      const parts = Array.from(encoded, (id) => stream.push(id));
      assert.equal(parts.join(''), text.normalize('NFC'));
      assert.ok(parts.every((part) => !part.includes('\ufffd')));
      assert.equal(stream.end(), '');
    }),
    { numRuns: 50 },
  );
});

test('end tokens are the union of those of all files and of the model', async (t) => {
  const end = 332;
  const folder = folderOf(t, { 'generation_config.json': { eos_token_id: [3, 5] } });
  const tokenizer = await HuggingFaceTokenizer.load(folder, { endTokens: [5, 1], encoder: 'javascript' });
  const named = tokenizer.specialTokens.get('<|end|>')!;
  assert.equal(tokenizer.decode([named]), '<|end|>');
  assert.deepEqual(
    tokenizer.endTokens,
    [1, 3, 5, named].sort((a, b) => a - b),
  );
  assert.ok(Math.abs(named - end) < 3);
  assert.equal(tokenizer.paddingToken, tokenizer.specialTokens.get('<|pad|>'));
  assert.deepEqual([...tokenizer.specialTokens.keys()], ['<|begin|>', '<|end|>', '<|pad|>']);
  assert.equal(tokenizer.chat, null);
  const other = folderOf(t, {
    'tokenizer_config.json': undefined,
    'special_tokens_map.json': { eos_token: { content: '<|pad|>' } },
    'generation_config.json': { eos_token_id: 7 },
  });
  const mapped = await HuggingFaceTokenizer.load(other, { encoder: 'javascript' });
  assert.deepEqual(mapped.endTokens, [7, mapped.specialTokens.get('<|pad|>')!]);
  assert.equal(mapped.paddingToken, null);
});

test('tokens that only tokenizer_config.json defines are added', async (t) => {
  const id = 400;
  const added = { [id]: { content: '<|new|>', special: true } };
  const folder = folderOf(t, { 'tokenizer_config.json': { ...settings, added_tokens_decoder: added } });
  const tokenizer = await HuggingFaceTokenizer.load(folder, { encoder: 'javascript' });
  assert.equal(tokenizer.vocabularySize, id + 1);
  const [ids] = await tokenizer.encode(['a<|new|>b'], { addSpecialTokens: false });
  assert.ok(ids.includes(id));
  assert.equal(tokenizer.decode(ids), 'a<|new|>b');
  assert.equal(tokenizer.decode(ids, { skipSpecialTokens: true }), 'ab');
});

test('lone surrogates become U+FFFD', async (t) => {
  const tokenizer = await HuggingFaceTokenizer.load(folderOf(t), { encoder: 'javascript' });
  const [lone, replaced] = await tokenizer.encode(['a\ud800b', 'a\ufffdb']);
  assert.deepEqual(lone, replaced);
  assert.deepEqual(await tokenizer.encode([]), []);
  assert.equal(tokenizer.decode([]), '');
});

test('files that are not a tokenizer are rejected by name', async (t) => {
  const model = golden.tokenizer.model as { vocab: Record<string, number> };
  const withModel = (vocab: unknown) => ({ ...golden.tokenizer, model: { ...model, vocab } });
  const cases: [files: Record<string, unknown>, expected: RegExp][] = [
    [{ 'tokenizer.json': undefined }, /expected a folder with tokenizer.json, got none/],
    [{ 'tokenizer.json': '{' }, /tokenizer.json: expected JSON/],
    [{ 'tokenizer.json': '[]' }, /tokenizer.json: expected an object, got an array/],
    [{ 'tokenizer.json': { ...golden.tokenizer, model: null } }, /tokenizer.json, model: expected an object, got null/],
    [{ 'tokenizer.json': withModel('x') }, /vocab: expected an object, got "x"/],
    [{ 'tokenizer.json': withModel({ ...model.vocab, other: 3 }) }, /vocab, "other": expected a unique id, got 3/],
    [{ 'tokenizer.json': withModel({ a: 1e9 }) }, /vocab, "a": expected an integer at least 0 and below 16777216/],
    [{ 'tokenizer.json': withModel({ a: -1 }) }, /vocab, "a": expected an integer/],
    [
      { 'tokenizer.json': { ...golden.tokenizer, decoder: { type: 'CTC' } } },
      /decoder, type: expected 'ByteLevel'.*got "CTC"/,
    ],
    [{ 'tokenizer.json': { ...golden.tokenizer, decoder: null } }, /decoder: expected an object, got null/],
    [
      { 'tokenizer.json': { ...golden.tokenizer, pre_tokenizer: { type: 'Odd' } } },
      /expected a tokenizer that can be used/,
    ],
    [{ 'tokenizer.json': { ...golden.tokenizer, added_tokens: {} } }, /added_tokens: expected a list/],
    [
      { 'tokenizer.json': { ...golden.tokenizer, added_tokens: [{ id: 'x' }] } },
      /added token 0, id: expected an integer/,
    ],
    [{ 'tokenizer_config.json': { eos_token: 3 } }, /tokenizer_config.json, eos_token: expected an object, got 3/],
    [{ 'tokenizer_config.json': '{"a":1,"a":2}' }, /tokenizer_config.json: expected JSON, got position 7: the key "a"/],
    [{ 'tokenizer_config.json': { ...settings, chat_template: 5 } }, /chat_template: expected a string or an array/],
    [
      { 'generation_config.json': { eos_token_id: ['x'] } },
      /generation_config.json, eos_token_id: expected an integer/,
    ],
  ];
  for (const [files, expected] of cases) {
    const folder = folderOf(t, files);
    await assert.rejects(HuggingFaceTokenizer.load(folder, { encoder: 'javascript' }), (error: Error) => {
      assert.ok(error instanceof TypeError || error instanceof RangeError, String(error));
      assert.match(error.message, expected);
      return true;
    });
  }
  await assert.rejects(
    HuggingFaceTokenizer.load(folderOf(t), { encoder: 'Native' as 'native' }),
    /encoder: expected one of/,
  );
});

/** The text of tokens, and its parts. */
function decoded(decoder: unknown, tokens: readonly string[]): [text: string, parts: string[]] {
  const own = readTokenDecoder(decoder, 'decoder')();
  const parts = tokens.map((token) => own.push(token));
  const end = own.end();
  return [parts.join('') + end, [...parts, end]];
}

const words = {
  type: 'Sequence',
  decoders: [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    { type: 'Strip', content: ' ', start: 1, stop: 0 },
  ],
};

test('decoders: bytes of a character split over tokens', () => {
  assert.deepEqual(decoded(words, ['▁Hi', '<0xF0>', '<0x9F>', '<0x8E>', '<0x89>', '!']), [
    'Hi🎉!',
    ['Hi', '', '', '', '', '🎉!', ''],
  ]);
  // With one invalid byte, none of the run is text.
  assert.equal(decoded(words, ['<0x41>', '<0xE4>'])[0], '\ufffd\ufffd');
  assert.equal(decoded(words, ['▁', '▁▁a'])[0], '  a');
  assert.equal(decoded({ type: 'ByteLevel' }, ['ðŁ', 'İ', 'ī'])[1].join('|'), '||🎉|');
  assert.equal(decoded({ type: 'ByteLevel' }, ['ðŁ'])[0], '\ufffd');
  assert.equal(decoded({ type: 'ByteLevel' }, ['<a b>', 'Ġc'])[0], '<a b> c');
  assert.equal(decoded({ type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' }, ['▁a', '▁b'])[0], 'a b');
  assert.equal(decoded({ type: 'Metaspace', replacement: '▁', prepend_scheme: 'never' }, ['▁a', '▁b'])[0], ' a b');
  assert.throws(
    () => readTokenDecoder({ type: 'Sequence', decoders: [{ type: 'CTC' }] }, 'd'),
    /d, decoder 0, type: .*got "CTC"/,
  );
  const reversed = { type: 'Sequence', decoders: [...words.decoders].reverse() };
  assert.throws(
    () => readTokenDecoder(reversed, 'd'),
    /d, decoder 0, type: expected Replace, ByteFallback, Fuse, Strip/,
  );
});
