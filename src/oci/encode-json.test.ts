import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  CONFIG,
  compactJson,
  encode,
  encodeDocument,
  encodeIndented,
  INDEX,
  isTime,
  type JsonObject,
  shortTime,
} from './encode-json.ts';

describe('JSON as Go writes it', () => {
  it('orders members as the specification does, and keeps unknown ones behind', () => {
    const document = JSON.parse(
      '{"zz":{"b":[],"a":""},"rootfs":{"diff_ids":[],"type":"layers"},"os":"linux","aa":null,"architecture":"amd64","config":{"Labels":{},"Healthcheck":{"Test":["x"]},"Cmd":["a"],"User":""},"created":"2020-01-01T00:00:00.120000000Z"}',
    ) as JsonObject;
    assert.equal(
      encodeDocument(document, CONFIG).toString(),
      '{"created":"2020-01-01T00:00:00.12Z","architecture":"amd64","os":"linux","config":{"Cmd":["a"],"Healthcheck":{"Test":["x"]}},"rootfs":{"type":"layers","diff_ids":[]},"aa":null,"zz":{"a":"","b":[]}}\n',
    );
  });

  it('sorts maps by bytes, numbers and names of prototypes too', () => {
    const labels = JSON.parse('{"9":1,"10":2,"__proto__":3,"\u{1f600}":4,"\uffee":5}') as JsonObject;
    assert.equal(encode(labels), '{"10":2,"9":1,"__proto__":3,"\uffee":5,"\u{1f600}":4}');
    assert.equal(encode({ manifests: [labels] }, INDEX).includes('__proto__'), true);
  });

  it('escapes what HTML would take', () => {
    assert.equal(encode('<a href="x">&\u2028\n'), '"\\u003ca href=\\"x\\"\\u003e\\u0026\\u2028\\n"');
  });

  it('takes blanks out between words only', () => {
    assert.equal(
      compactJson('{ "a b" : "x \\" y" ,\n\t"c":[ 1 , 2 ] , "d":"<" }\n'),
      '{"a b":"x \\" y","c":[1,2],"d":"\\u003c"}',
    );
  });

  it('indents', () => {
    const value = { z: [], a: { '2': {}, '10': ['<'] } };
    assert.equal(
      encodeIndented(value),
      '{\n\t"z": [],\n\t"a": {\n\t\t"10": [\n\t\t\t"\\u003c"\n\t\t],\n\t\t"2": {}\n\t}\n}',
    );
  });

  it('times', () => {
    assert.equal(shortTime('2020-01-01T00:00:00.000Z'), '2020-01-01T00:00:00Z');
    assert.equal(shortTime('2020-01-01T00:00:00.123456789012+02:00'), '2020-01-01T00:00:00.123456789+02:00');
    assert.equal(shortTime('2020-01-01T00:00:00-00:00'), '2020-01-01T00:00:00Z');
    assert.equal(shortTime('yesterday'), 'yesterday');
    for (const good of ['2020-02-29T23:59:59Z', '2020-01-01T00:00:00.5+02:00']) assert.ok(isTime(good), good);
    for (const bad of [
      '2021-02-29T00:00:00Z',
      '2020-01-01 00:00:00Z',
      '2020-01-01T24:00:00Z',
      '2020-01-01',
      '',
    ])
      assert.ok(!isTime(bad), bad);
  });
});
