// A rollout engine of HTTP servers: writes versions of the weights as folders, has servers load and check them, and requests
// completions.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join, resolve } from 'node:path';
import { checkKeys, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { threefry } from '../base/random.js';
import {
  type Completion,
  checkRequests,
  checkSamplingSettings,
  cutBounds,
  isCut,
  type RolloutEngine,
  type RolloutOptions,
  type RolloutRequest,
  type RolloutWeights,
  type SamplingSettings,
} from './engine.js';
import { compareProbe, hasStayed, type Scores } from './probe.js';
import {
  type CompletionQuery,
  type RawCompletion,
  type ServerOptions,
  type ServerProtocol,
  type ServerRequest,
  type ServerVersion,
  saveVersion,
} from './server-api.js';
import { AnswerFault, type Job, ServerFault, ServerPool } from './servers.js';

interface Options extends ServerOptions {
  model: string;
  adapterFolder?: string;
  weightsFolder?: string;
}

type Checked = Required<Omit<Options, 'adapterFolder' | 'weightsFolder' | 'serverFolder'>> & {
  folder: string;
  serverFolder: string;
};

/** Length of the completions that probe a server. */
const probeTokens = 16;

/** Milliseconds in which servers must unload what they hold at the end of a loop of steps. */
const releaseLimit = 5000;

/** Maximum number of padding ids in a request; a completion with a padding id beyond them is sampled again. */
const maxPadding = 1000;

/** A version of the weights, and what a server must say of it. */
interface Version {
  /** Counted from 1. */
  number: number;
  name: string;
  folder: string;
  server: ServerVersion;
  /** Calls of `complete` under way that sample with it. */
  calls: number;
  weights: RolloutWeights;
  /** The policy's log-probs of all probes, concatenated; `base` without its adapter. */
  own: Scores;
  base: Scores | undefined;
}

/** A version that a server has loaded, and the server's log-probs of the probes. */
interface ProbedVersion {
  version: Version;
  scores: Scores;
}

/** Loading and checking of a version by a server, under way or done. */
interface Loading {
  done: Promise<void>;
  /** Of the call that it was begun for. */
  signal: AbortSignal;
}

/** What is known of one server. */
interface Known {
  ready: Map<Version, Loading>;
  /** Versions that it was asked to load; none for protocols in which a version replaces the one before. */
  loaded: Set<Version>;
  /** Names of versions that it is to unload, those of earlier processes too. */
  expired?: Set<string>;
  first?: ProbedVersion;
  before?: ProbedVersion;
}

/** An engine that uses a server's protocol. TypeError or RangeError that names the option. */
export function serverEngine(
  protocol: ServerProtocol,
  options: Options,
  defaults: { apiKeyVariable: string },
): RolloutEngine {
  return new ServerEngine(protocol, checkOptions(protocol, options, defaults));
}

const optionNames = [
  'urls',
  'model',
  'adapterFolder',
  'weightsFolder',
  'serverFolder',
  'apiKeyVariable',
  'concurrency',
  'retries',
  'backOff',
  'timeLimit',
  'maxProbeDifference',
  'keepLast',
] as const;

function checkOptions({ loads, name }: ServerProtocol, given: Options, defaults: { apiKeyVariable: string }): Checked {
  const o = checkObject('options', given) as unknown as Options;
  const unknownFolder = loads === 'adapter' ? 'weightsFolder' : 'adapterFolder';
  const known = optionNames.filter((option) => name === 'sglang' || option !== unknownFolder);
  checkKeys('', o as unknown as Record<string, unknown>, known);
  const text = (field: keyof Options & string, fallback?: string): string => {
    const value: unknown = o[field] ?? fallback;
    if (typeof value !== 'string' || value === '') throw typeError(field, 'a non-empty string', value);
    return value;
  };
  const count = (field: keyof Options & string, fallback: number, min = 1) =>
    checkNumber(field, o[field] ?? fallback, { min, integer: true });
  const folder = resolve(text(loads === 'adapter' ? 'adapterFolder' : 'weightsFolder'));
  return {
    urls: checkUrls(o.urls),
    model: text('model'),
    folder,
    serverFolder: text('serverFolder', folder),
    apiKeyVariable: text('apiKeyVariable', defaults.apiKeyVariable),
    concurrency: count('concurrency', 64),
    retries: count('retries', 8, 0),
    backOff: count('backOff', 500),
    timeLimit: checkNumber('timeLimit', o.timeLimit ?? 240_000, { min: 1, max: 300_000, integer: true }),
    maxProbeDifference: checkNumber('maxProbeDifference', o.maxProbeDifference ?? 0.1, { above: 0 }),
    keepLast: count('keepLast', 2),
  };
}

/** Base URLs, without a slash at the end. Errors do not show a URL, since it may contain a password. */
function checkUrls(urls: unknown): string[] {
  if (!Array.isArray(urls) || urls.length === 0) throw typeError('urls', 'at least one URL', urls);
  const bases = urls.map((url: unknown, i) => {
    const parsed = typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined;
    if (!parsed || !/^https?:$/.test(parsed.protocol)) {
      throw typeError(`urls[${i}]`, 'an http or https URL', typeof url === 'string' ? 'another string' : url);
    }
    if (parsed.username || parsed.password || parsed.search || parsed.hash) {
      throw rangeError(`urls[${i}]`, 'a URL without user, password, query or fragment', 'one with such a part');
    }
    return `${parsed.origin}${parsed.pathname.replace(/\/+$/, '')}`;
  });
  const twice = bases.findIndex((url, i) => bases.indexOf(url) < i);
  if (twice >= 0)
    throw rangeError(`urls[${twice}]`, 'another server', `the same as urls[${bases.indexOf(bases[twice])}]`);
  return bases;
}

class ServerEngine implements RolloutEngine {
  readonly name: string;
  readonly description: Readonly<Record<string, unknown>>;
  readonly keepsTokens = false;
  readonly keepsVersions = true;
  private readonly pool: ServerPool;
  private readonly known = new Map<string, Known>();
  /** Distinguishes the versions of this process from those that other processes wrote into the folder. */
  private readonly process = randomBytes(4).toString('hex');
  private count = 0;
  private current: Version | undefined;
  /** Versions that may be sampled with. */
  private readonly inUse = new Map<RolloutWeights, Version>();
  /** Versions whose folders exist, oldest first. */
  private written: Version[] = [];
  /** Calls of `complete` under way, in the order in which they began. */
  private readonly calls = new Set<{ version: Version; ended: Promise<void> }>();
  /** Versions of earlier processes of the run, which servers may still hold. */
  private leftovers: string[] | undefined;

  constructor(
    private readonly protocol: ServerProtocol,
    private readonly settings: Checked,
  ) {
    this.name = protocol.name;
    this.description = { name: protocol.name, model: settings.model, loads: protocol.loads };
    this.pool = new ServerPool(settings);
    for (const url of settings.urls) this.known.set(url, { ready: new Map(), loaded: new Set() });
  }

  async update(
    weights: RolloutWeights,
    { inUse = [] }: { signal?: AbortSignal; inUse?: readonly RolloutWeights[] } = {},
  ): Promise<void> {
    const { folder, serverFolder, keepLast } = this.settings;
    const prefix = `groupgrad-${weights.run}-`;
    const own = flat(await weights.logProbs(weights.probes, 1));
    const base = weights.baseLogProbs && flat(await weights.baseLogProbs(weights.probes));
    fs.mkdirSync(folder, { recursive: true });
    // Only one process at a time works on a run, so versions that others wrote for it are no longer needed.
    this.leftovers ??= fs.readdirSync(folder).filter((name) => name.startsWith(prefix));
    for (const name of this.leftovers) fs.rmSync(join(folder, name), { recursive: true, force: true });
    const number = ++this.count;
    const name = `${prefix}${this.process}-${number}`;
    const passing = join(folder, `${name}.part`);
    await saveVersion(this.protocol.loads, weights, passing);
    fs.renameSync(passing, join(folder, name));
    // A server path may be that of another system: it is joined as a URL is.
    const server = { name, path: `${serverFolder.replace(/[\\/]+$/, '')}/${name}` };
    this.current = { number, name, folder: join(folder, name), server, calls: 0, weights, own, base };
    for (const earlier of this.inUse.keys()) if (!inUse.includes(earlier)) this.inUse.delete(earlier);
    this.inUse.set(weights, this.current);
    this.written.push(this.current);
    // A server that is restarted loads versions in use again.
    const expired = this.written.slice(0, -keepLast).filter((version) => !this.isInUse(version));
    for (const version of expired) fs.rmSync(version.folder, { recursive: true, force: true });
    this.written = this.written.filter((version) => !expired.includes(version));
  }

  private isInUse(version: Version): boolean {
    return version.calls > 0 || this.inUse.get(version.weights) === version;
  }

  async complete(requests: readonly RolloutRequest[], options: RolloutOptions): Promise<Completion[]> {
    const { signal, onCompletion, weights } = options;
    const version = weights ? this.inUse.get(weights) : this.current;
    if (!version) {
      const came = weights ? 'some that are no longer in use' : 'none';
      throw new Error(`${this.name}: expected weights of an update (update) before completions, got ${came}`);
    }
    checkSamplingSettings('', settingsOf(options));
    checkRequests(requests, version.weights.logitsSize);
    if (isCut(options)) {
      const field = (Object.keys(cutBounds) as (keyof typeof cutBounds)[]).find((name) =>
        isCut({ [name]: options[name] }),
      );
      throw rangeError(
        field ?? 'topP',
        `no truncation with ${this.name}, which does not return the kept tokens`,
        String(options[field ?? 'topP']),
      );
    }
    const jobs = requests.map(
      (request): Job<Completion> => ({
        group: request.promptIndex,
        run: async (url, attempt, stop) => {
          const loading = await this.makeReady(url, version, stop);
          return this.sample(url, version, loading, queryOf(version, request, options, attempt), stop);
        },
      }),
    );
    return this.alongside(version, signal, () => this.pool.run(jobs, { signal, onDone: onCompletion }));
  }

  /**
   * What `sample` gives, while the version counts as one that is sampled with. A server has room for one model only: with
   * whole models, calls wait until all earlier ones of other versions have ended.
   */
  private async alongside<T>(version: Version, signal: AbortSignal | undefined, sample: () => Promise<T>): Promise<T> {
    let end!: () => void;
    const call = { version, ended: new Promise<void>((resolve) => (end = resolve)) };
    const others = [...this.calls].filter((earlier) => earlier.version !== version);
    this.calls.add(call);
    version.calls++;
    try {
      if (this.protocol.loads === 'model') await unlessAborted(Promise.all(others.map(({ ended }) => ended)), signal);
      return await sample();
    } finally {
      version.calls--;
      this.calls.delete(call);
      end();
    }
  }

  /** One completion. If the server does not know the version, it has to load it again. */
  private async sample(
    url: string,
    version: Version,
    loading: Loading,
    query: CompletionQuery,
    signal: AbortSignal,
  ): Promise<Completion> {
    try {
      const answer = await this.post(url, this.protocol.complete(query, version.server), signal);
      return readCompletion(this.protocol.readCompletion(answer, version.server), query, version.weights);
    } catch (error) {
      const isUnknown = error instanceof Refusal && error.mentions(version.name);
      // A server that has failed may have been restarted.
      if (isUnknown || error instanceof ServerFault || error instanceof AnswerFault) this.forget(url, version, loading);
      throw isUnknown ? new ServerFault(error.message) : error;
    }
  }

  /** The version is to be loaded again, unless that has begun since. */
  private forget(url: string, version: Version, loading: Loading): void {
    const { ready } = this.known.get(url)!;
    if (ready.get(version) === loading) ready.delete(version);
  }

  /** Loads a version into a server and checks it, once. */
  private async makeReady(url: string, version: Version, signal: AbortSignal): Promise<Loading> {
    const { ready } = this.known.get(url)!;
    for (;;) {
      const loading = ready.get(version) ?? this.beginLoading(url, version, signal);
      try {
        await unlessAborted(loading.done, signal);
        return loading;
      } catch (error) {
        // The call that it was begun for has ended, and this one has not: it is begun again.
        if (signal.aborted || !loading.signal.aborted) throw error;
        this.forget(url, version, loading);
      }
    }
  }

  private beginLoading(url: string, version: Version, signal: AbortSignal): Loading {
    const known = this.known.get(url)!;
    // There is room for one model.
    if (this.protocol.loads === 'model') known.ready.clear();
    const loading: Loading = { done: this.load(url, known, version, signal), signal };
    known.ready.set(version, loading);
    loading.done.catch(() => this.forget(url, version, loading));
    return loading;
  }

  private async load(url: string, known: Known, version: Version, signal: AbortSignal): Promise<void> {
    const { protocol } = this;
    // Also a load whose response never comes may have been done.
    if (protocol.unload) known.loaded.add(version);
    try {
      await this.post(url, protocol.load(version.server), signal);
    } catch (error) {
      // The server may have loaded it although the connection was lost before its response.
      const isLoaded = error instanceof Refusal && protocol.loads === 'adapter' && error.mentions('already');
      if (!isLoaded) throw error;
    }
    await this.check(url, known, version, signal);
    await this.unloadSuperfluous(url, known, signal);
  }

  /** Lets a server go of the versions that are no longer in use. */
  private async unloadSuperfluous(url: string, known: Known, signal: AbortSignal): Promise<void> {
    const { unload } = this.protocol;
    if (!unload) return;
    known.expired ??= new Set(this.leftovers);
    for (const version of known.loaded) {
      if (this.isInUse(version)) continue;
      known.loaded.delete(version);
      known.ready.delete(version);
      known.expired.add(version.name);
    }
    for (const name of [...known.expired]) {
      try {
        await this.post(url, unload(name), signal);
      } catch (error) {
        // It is asked again with the next version.
        if (error instanceof ServerFault) continue;
        // Otherwise it is gone already: the server was restarted, or unloaded it by itself.
        if (!(error instanceof Refusal)) throw error;
      }
      known.expired.delete(name);
    }
  }

  async release(): Promise<void> {
    // Before the first update no version of this process is anywhere.
    if (!this.current) return;
    this.inUse.clear();
    const limit = AbortSignal.timeout(releaseLimit);
    // A server that is gone, or does not respond any more, holds nothing that counts.
    const urls = [...this.known].filter(([, { loaded, expired }]) => loaded.size > 0 || expired?.size);
    await Promise.all(urls.map(([url, known]) => this.unloadSuperfluous(url, known, limit).catch(() => {})));
  }

  /** Throws an Error with the numbers if a server computes with other weights than those of the version. */
  private async check(url: string, known: Known, version: Version, signal: AbortSignal): Promise<void> {
    const { maxProbeDifference: bound } = this.settings;
    const { weights, own, base } = version;
    const fail = (what: string, { mean, max }: { mean: number; max: number }): never => {
      const numbers = `${mean.toPrecision(3)} on average, ${max.toPrecision(3)} at most`;
      throw new Error(
        `${this.name} at ${url}, version ${version.name}: ${what} (log-probs differ from the policy's by ${numbers})`,
      );
    };
    const asked = weights.probes.map(async (probe) => {
      const answer = await this.post(url, this.protocol.score(probe, version.server), signal);
      return readNumbers(this.protocol.readScores(answer, probe), probe.length - 1, `${this.name} at ${url}`);
    });
    const scores = (await Promise.all(asked)).flat();
    const result = compareProbe(scores, own, bound);
    if (base) {
      const { fault } = compareProbe(scores, own, Infinity, { 'the server computes without the adapter': base });
      if (fault) fail(fault, result);
    }
    for (const probed of [known.before, known.first]) {
      if (!probed || probed.version === version) continue;
      if (hasStayed({ before: probed.scores, now: scores }, { before: probed.version.own, now: own })) {
        fail(`the server still computes with version ${probed.version.name}`, result);
      }
    }
    if (result.fault) fail(`the server computes with different weights: ${result.fault}`, result);
    const probed = { version, scores };
    known.first ??= probed;
    known.before = probed;
    await this.checkSampling(url, version, signal, fail);
  }

  /** Checks log-probs of sampled tokens: they must be at the run's temperature, and without cached values of an older version. */
  private async checkSampling(
    url: string,
    version: Version,
    signal: AbortSignal,
    fail: (what: string, result: { mean: number; max: number }) => never,
  ): Promise<void> {
    const { weights } = version;
    const asked = weights.probes.map(async (probe, promptIndex) => {
      const prompt = probe.subarray(0, Math.ceil(probe.length / 2));
      const settings = { maxTokens: probeTokens, temperature: weights.temperature, seed: 0, step: 0 };
      const query = queryOf(version, { prompt, promptIndex, sample: 0 }, settings, version.number);
      const answer = await this.post(url, this.protocol.complete(query, version.server), signal);
      const { tokens, logProbs } = readCompletion(this.protocol.readCompletion(answer, version.server), query, weights);
      return { sequence: Int32Array.from([...prompt, ...tokens]), logProbs };
    });
    const completions = await Promise.all(asked);
    const sequences = completions.map(({ sequence }) => sequence);
    const lengths = completions.map(({ logProbs }) => logProbs.length);
    const sampled = flat(completions.map(({ logProbs }) => logProbs));
    const ends = (rows: readonly Float32Array[]) =>
      rows.flatMap((row, i) => [...row.subarray(row.length - lengths[i])]);
    const own = ends(await weights.logProbs(sequences, weights.temperature));
    const without = ends(await weights.logProbs(sequences, 1));
    const result = compareProbe(sampled, own, this.settings.maxProbeDifference, {
      [`its log-probs are those at temperature 1, not ${weights.temperature}`]: without,
    });
    if (result.fault) fail(`the server's log-probs of sampled tokens are different: ${result.fault}`, result);
  }

  /** The JSON of a server's response. ServerFault if the request may be repeated, Refusal if not. */
  private async post(url: string, { path, body }: ServerRequest, signal: AbortSignal): Promise<unknown> {
    const { apiKeyVariable, timeLimit } = this.settings;
    const key = process.env[apiKeyVariable];
    const hidden = (text: string) => (key ? text.replaceAll(key, '[key]') : text);
    const where = `${this.name}, POST ${url}${path}`;
    const limit = new AbortController();
    // Training may have held the thread when the time is over: an answer that has arrived is processed first.
    const timer = setTimeout(() => setImmediate(() => limit.abort()), timeLimit);
    let status: number;
    let text: string;
    try {
      const response = await fetch(`${url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
        body: JSON.stringify(body),
        signal: AbortSignal.any([signal, limit.signal]),
        redirect: 'error',
      });
      status = response.status;
      text = await response.text();
    } catch (error) {
      signal.throwIfAborted();
      const { message, cause } = error as Error & { cause?: { code?: string; message?: string } };
      const why = limit.signal.aborted
        ? `no response within ${timeLimit} ms`
        : (cause?.code ?? cause?.message ?? message);
      throw new ServerFault(hidden(`${where}: ${why}`));
    } finally {
      clearTimeout(timer);
    }
    // Remove the key before the text is shortened, which could leave a part of it.
    text = hidden(text);
    const message = `${where}: status ${status}, ${describe(text)}`;
    if (status >= 500 || status === 408 || status === 429) throw new ServerFault(message);
    if (status >= 400) throw new Refusal(message, text);
    // The response to a request to load an adapter is plain text.
    if (!text.startsWith('{')) return {};
    let answer: { success?: unknown };
    try {
      answer = JSON.parse(text) as typeof answer;
    } catch {
      throw new ServerFault(`${where}: expected JSON, got ${describe(text)}`);
    }
    if (answer.success === false) throw new Refusal(message, text);
    return answer;
  }
}

/** A request that the server rejected. */
class Refusal extends Error {
  override name = 'Refusal';

  constructor(
    message: string,
    private readonly text: string,
  ) {
    super(message);
  }

  /** Whether the response contains a text, for example the name of a version that the server does not know. */
  mentions(text: string): boolean {
    return this.text.includes(text);
  }
}

/** What a promise gives, unless the signal aborts first: then its reason is thrown. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  signal.throwIfAborted();
  let abort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function settingsOf({ signal: _, onCompletion: __, weights: ___, ...settings }: RolloutOptions): SamplingSettings {
  return settings;
}

function queryOf(
  { weights: { tokenizer, logitsSize } }: Version,
  { prompt, promptIndex, sample }: RolloutRequest,
  options: Pick<SamplingSettings, 'maxTokens' | 'temperature' | 'seed' | 'step' | 'stopTokens' | 'stopTexts'>,
  attempt: number,
): CompletionQuery {
  const { maxTokens, temperature, seed, step, stopTokens = [], stopTexts = [] } = options;
  const padding = logitsSize - tokenizer.vocabularySize;
  // A repeated request gets other random numbers: with the same ones, a useless completion would come again.
  const [word] = threefry([seed | 0, Math.floor(seed / 2 ** 32), step, attempt], [promptIndex, sample, 0, 0]);
  return {
    prompt,
    maxTokens,
    temperature,
    seed: word >>> 1,
    stopTokens: [...new Set([...tokenizer.endTokens, ...stopTokens])],
    stopTexts,
    paddingTokens: padding <= maxPadding ? Array.from({ length: padding }, (_, i) => tokenizer.vocabularySize + i) : [],
  };
}

/** Checks a completion. AnswerFault for one that is to be sampled again, Error for one that means a wrong model or configuration. */
function readCompletion(
  { tokens, logProbs, finish }: RawCompletion,
  { maxTokens, stopTokens, stopTexts }: CompletionQuery,
  { tokenizer: { vocabularySize }, logitsSize }: RolloutWeights,
): Completion {
  if (finish !== 'stop' && finish !== 'length') {
    throw new AnswerFault(`expected a completion with finish reason stop or length, got ${describe(finish)}`);
  }
  if (!Array.isArray(tokens) || tokens.length === 0 || tokens.length > maxTokens) {
    throw new Error(`completion: expected 1 to ${maxTokens} token ids, got ${describe(tokens)}`);
  }
  for (const id of tokens as unknown[]) {
    if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= logitsSize) {
      const expected = `completion: expected token ids from 0 to ${logitsSize - 1}`;
      throw new Error(`${expected}, got ${describe(id)}: does the server run the policy's model?`);
    }
    if ((id as number) >= vocabularySize) throw new AnswerFault(`completion: token ${id as number} is padding`);
  }
  const ids = Int32Array.from(tokens as number[]);
  const last = ids.at(-1)!;
  if (finish === 'stop' && !stopTokens.includes(last) && stopTexts.length === 0) {
    throw new Error(
      `completion: expected its last token to be one of ${stopTokens.join(', ')}, got ${last}: ` +
        'does the server use the end tokens of its own configuration?',
    );
  }
  return {
    tokens: ids,
    logProbs: Float32Array.from(readNumbers(logProbs, ids.length, 'completion')),
    truncated: finish === 'length' && !stopTokens.includes(last),
  };
}

function readNumbers(values: unknown, count: number, where: string): number[] {
  if (!Array.isArray(values) || values.length !== count) {
    throw new Error(`${where}: expected ${count} log-probs, got ${describe(values)}`);
  }
  return values.map((value: unknown) => {
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      throw new Error(`${where}: expected finite log-probs, got ${describe(value)}`);
    }
    // Rounding may make one slightly positive.
    if (value > 1e-3) throw new Error(`${where}: expected log-probs of at most 0, got ${value}`);
    return Math.min(0, value);
  });
}

function flat(rows: readonly Float32Array[]): number[] {
  return rows.flatMap((row) => [...row]);
}
