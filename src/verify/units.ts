// Units after a number, normalised to one spelling each.

const aliases: Readonly<Record<string, string>> = Object.fromEntries(
  [
    'degree degrees deg °',
    'percent %',
    'dollar dollars $ usd',
    'cent cents ¢',
    'euro euros €',
    'pound pounds £ lb lbs',
    'cm centimeter centimeters centimetre centimetres',
    'mm millimeter millimeters millimetre millimetres',
    'm meter meters metre metres',
    'km kilometer kilometers kilometre kilometres',
    'in inch inches',
    'ft foot feet',
    'yd yard yards',
    'mi mile miles',
    'kg kilogram kilograms',
    'g gram grams',
    'mg milligram milligrams',
    'l liter liters litre litres',
    'ml milliliter milliliters',
    's sec secs second seconds',
    'min mins minute minutes',
    'h hr hrs hour hours',
    'day days',
    'week weeks',
    'month months',
    'year years yr yrs',
    'mi/h mph',
    'hz hertz',
    'khz',
    'mhz',
    'ghz',
    'j joule joules',
    'kj',
    'n newton newtons',
    'w watt watts',
    'kw',
    'pa pascal pascals',
    'ev',
    'kev',
    'mev',
    'gev',
    'mol mole moles',
    'k kelvin kelvins',
    'celsius',
    'fahrenheit',
    'v volt volts',
    'a amp amps ampere amperes',
    'rad radian radians',
    'oz ounce ounces',
    'ton tons tonne tonnes',
    'nm',
    'pc parsec parsecs',
    'kpc',
    'mpc',
    'au',
    'erg ergs',
    'kms',
    'angstrom angstroms',
    'gal gallon gallons',
    'ms',
    'ns',
    'ohm ohms',
    'tesla',
    'gauss',
    'dyn dyne dynes',
    'acre acres',
    'unit units',
    'men',
    'pts',
    'pcs',
  ].flatMap((line) => line.split(' ').map((name, _, [first]) => [name, first])),
);

/** Words that change the number before them, and so are not units. */
const modifiers = new Set(
  (
    'squared cubed factorial choose times plus minus over mod modulo base less more divided negative not or and to than of is if for when where ' +
    'half halves third thirds quarter quarters fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths infinity equals ' +
    'thousand thousands million millions billion billions trillion hundred hundreds dozen dozens score k bn mil power squares roots root wait but ' +
    'th st nd rd modulus multiplied except maybe either sqrt pi by pm am'
  ).split(' '),
);

/** Units that may follow a number without \text, because variables in formulas do not look like these. */
export const isUnitWord = (word: string): boolean => word.length > 1 && Object.hasOwn(aliases, word.toLowerCase());

/**
 * One spelling of the words after a number, like `m/s^2`, or undefined if they are not a unit. An unlisted word counts as a unit
 * ("7 apples") unless it changes the number; it is then put in angle brackets.
 */
export function canonicalUnit(text: string): string | undefined {
  const words = text
    .replace(/\\(?:cdot|times)(?![a-zA-Z])|\*/g, ' ')
    .replace(/\bper\b/g, '/')
    .replace(/\b([ap])\.\s?m\b/gi, '$1m')
    .replace(/[{}()]/g, '')
    .match(/[\p{L}$€£¢%°]+|\/|\^\s?-?\d+|\S/gu);
  if (!words || words.length > 12) return undefined;
  const parts: string[] = [];
  let powerOfNext = '';
  for (const raw of words) {
    const word = raw.toLowerCase();
    if (word === '/') parts.push('/');
    else if (word.startsWith('^')) {
      if (parts.length === 0 || parts.at(-1) === '/' || word === '^') return undefined;
      parts[parts.length - 1] += word.replace(' ', '');
    } else if (word === 'square' || word === 'sq') powerOfNext = '^2';
    else if (word === 'cubic' || word === 'cu') powerOfNext = '^3';
    else if (modifiers.has(word)) return undefined;
    else if (!/^[\p{L}$€£¢%°]+$/u.test(word)) {
      if (word !== '.') return undefined;
    } else {
      parts.push((Object.hasOwn(aliases, word) ? aliases[word] : `<${word}>`) + powerOfNext);
      powerOfNext = '';
    }
  }
  if (parts.length === 0 || powerOfNext !== '') return undefined;
  return parts.join(' ').replace(/ ?\/ ?/g, '/');
}

/** Whether two answers' units are compatible: they are if one has none, or an unlisted word. */
export function unitsAgree(a: string | undefined, b: string | undefined): boolean {
  if (a === undefined || b === undefined || a === b || a === 'unit' || b === 'unit') return true;
  // Unlisted words do not affect the number.
  return a.includes('<') || b.includes('<');
}
