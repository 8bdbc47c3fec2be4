// The files of a Hugging Face folder that define how text becomes ids: tokenizer.json, tokenizer_config.json,
// special_tokens_map.json, generation_config.json.

import fs from 'node:fs';
import { join } from 'node:path';
import { checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import type { Json } from '../base/json.js';
import { readJsonFile } from '../base/json-file.js';

/** Roles that a token can have in a configuration; chat templates see the tokens by these names. */
const roles = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'] as const;
export type TokenRole = (typeof roles)[number];

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

export interface TokenizerFiles {
  /** tokenizer.json, with the added tokens of tokenizer_config.json. */
  readonly tokenizer: { readonly [key: string]: unknown };
  /** tokenizer_config.json; empty if there is none. */
  readonly config: { readonly [key: string]: Json };
  /** Every token by its id; unused ids are holes. */
  readonly tokens: readonly (string | undefined)[];
  readonly added: readonly AddedToken[];
  readonly roles: ReadonlyMap<TokenRole, string>;
  /** Ids that end a text, from generation_config.json. */
  readonly endTokens: readonly number[];
}

/** A vocabulary of a few hundred thousand tokens takes some 30 MB. */
const maxTokenizerBytes = 512 * 2 ** 20;

/** Far above any vocabulary: a table holds an entry for each id. */
const maxId = 2 ** 24;

/**
 * Reads and checks the files of a folder.
 *
 * @throws TypeError or RangeError, naming the file, if tokenizer.json is missing or a file is invalid
 */
export function readTokenizerFiles(folder: string): TokenizerFiles {
  const config = readJsonFile(join(folder, 'tokenizer_config.json')) ?? {};
  const specials = readJsonFile(join(folder, 'special_tokens_map.json')) ?? {};
  const tokenizer = readTokenizer(folder);
  const added = addedTokens(tokenizer, config);
  return {
    tokenizer: { ...tokenizer, added_tokens: added },
    config,
    tokens: tokenTable(tokenizer, added),
    added,
    roles: new Map(
      roles.flatMap((role) => {
        const token = contentOf(`tokenizer_config.json, ${role}`, config[role] ?? specials[role] ?? null);
        return token === null ? [] : [[role, token] as const];
      }),
    ),
    endTokens: readEndTokens(folder),
  };
}

function readTokenizer(folder: string): { [key: string]: unknown } {
  const path = join(folder, 'tokenizer.json');
  if (!fs.existsSync(path)) {
    throw rangeError(folder, 'a folder with tokenizer.json', fs.existsSync(folder) ? 'none' : 'no such folder');
  }
  const { size } = fs.statSync(path);
  if (size > maxTokenizerBytes) throw rangeError(path, `at most ${maxTokenizerBytes} bytes`, String(size));
  try {
    // JSON.parse, for speed: vocabularies are large, and the table of ids reveals a token that occurs twice.
    return checkObject(path, JSON.parse(fs.readFileSync(path, 'utf8')));
  } catch (error) {
    if (error instanceof SyntaxError) throw rangeError(path, 'JSON', error.message);
    throw error;
  }
}

function contentOf(field: string, token: Json): string | null {
  if (token === null || typeof token === 'string') return token;
  const { content } = checkObject(field, token);
  if (typeof content !== 'string') throw typeError(`${field}, content`, 'a string', content);
  return content;
}

/** Ids that end a text, from the generation_config.json of a folder; none if there is no such file. */
export function readEndTokens(folder: string): number[] {
  const generation = readJsonFile(join(folder, 'generation_config.json')) ?? {};
  return idsOf('generation_config.json, eos_token_id', generation.eos_token_id ?? null);
}

/** One id, a list, or none. */
function idsOf(field: string, value: Json): number[] {
  const list = value === null ? [] : Array.isArray(value) ? value : [value];
  return list.map((id) => checkId(field, id));
}

function checkId(field: string, id: unknown): number {
  return checkNumber(field, id, { min: 0, below: maxId, integer: true });
}

/** Added tokens of tokenizer.json and those that are only in tokenizer_config.json, merged as in transformers. */
function addedTokens(tokenizer: { [key: string]: unknown }, config: { [key: string]: Json }): AddedToken[] {
  const list = tokenizer.added_tokens ?? [];
  if (!Array.isArray(list)) throw typeError('tokenizer.json, added_tokens', 'a list', list);
  const own = list.map((token, i) => addedToken(`tokenizer.json, added token ${i}`, token));
  const table = checkObject('tokenizer_config.json, added_tokens_decoder', config.added_tokens_decoder ?? {});
  const known = new Set(own.map(({ id }) => id));
  const others = Object.entries(table)
    .map(([id, token]) => {
      const field = `tokenizer_config.json, added_tokens_decoder, ${describe(id)}`;
      return addedToken(field, { ...checkObject(field, token), id: Number(id) });
    })
    .filter(({ id }) => !known.has(id));
  return [...own, ...others];
}

function addedToken(field: string, token: unknown): AddedToken {
  const { id, content, special = false, ...flags } = checkObject(field, token);
  checkId(`${field}, id`, id);
  if (typeof content !== 'string') throw typeError(`${field}, content`, 'a string', content);
  // A token in the form that tokenizer.json requires, with every flag present.
  return {
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: !special,
    ...flags,
    id: id as number,
    content,
    special: special === true,
  } as AddedToken;
}

function tokenTable(tokenizer: { [key: string]: unknown }, added: readonly AddedToken[]): (string | undefined)[] {
  const { vocab } = checkObject('tokenizer.json, model', tokenizer.model);
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of vocabulary(vocab)) {
    checkId(`tokenizer.json, model, vocab, ${describe(token)}`, id);
    if (tokens[id] !== undefined) {
      throw rangeError(
        `tokenizer.json, model, vocab, ${describe(token)}`,
        'a unique id',
        `${id}, that of ${describe(tokens[id])}`,
      );
    }
    tokens[id] = token;
  }
  for (const { id, content } of added) tokens[id] = content;
  return Array.from(tokens);
}

/** Tokens with ids: an object, or a list of tokens with scores in the order of their ids. */
function vocabulary(vocab: unknown): [token: string, id: number][] {
  if (Array.isArray(vocab)) return vocab.map((entry, id) => [String(Array.isArray(entry) ? entry[0] : entry), id]);
  return Object.entries(checkObject('tokenizer.json, model, vocab', vocab)) as [string, number][];
}
