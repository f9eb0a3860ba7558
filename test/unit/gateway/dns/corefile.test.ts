import { describe, expect, it } from 'vitest'
import { formatName } from '../../../../dns/name.ts'
import { parseResolverConfig } from '../../../../gateway/dns/resolverConfig.ts'
import { formatAddress } from '../../../../ipref/address.ts'

function read(text: string, argv: string[] = []) {
  return parseResolverConfig(['-corefile', 'Corefile', ...argv], path => {
    if (path !== 'Corefile') throw Object.assign(new Error(), { code: 'ENOENT' })
    return text
  })
}

function accepted(text: string, argv: string[] = []) {
  const parsed = read(text, argv)
  if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
  const { resolver, zones, notes } = parsed.config
  return {
    domains: resolver.domains.map(formatName),
    except: resolver.excluded.map(formatName),
    upstreams: resolver.upstreams.map(s => `${formatAddress(s.address)} ${s.port}`),
    forwarders: resolver.forwarders.map(s => `${formatAddress(s.address)} ${s.port}`),
    listen: resolver.listen.map(({ address, port }) => `${formatAddress(address)} ${port}`),
    encoded: resolver.encodedFamilies,
    contexts: resolver.contextFamilies,
    mapper: resolver.mapperSocket,
    zones,
    notes,
  }
}

function problems(text: string): string[] {
  const parsed = read(text)
  return 'problems' in parsed ? parsed.problems : []
}

describe('a Corefile that is documented', () => {
  it('translates a domain, but for a part of it, and forwards the rest', () => {
    const text = `. {
    ipref example.com {
        except www.example.com
        upstream 8.8.8.8
        ea-ipver 4
        gw-ipver 4
    }
    forward . 8.8.8.8
}
`
    expect(accepted(text)).toEqual({
      domains: ['example.com.'],
      except: ['www.example.com.'],
      upstreams: ['8.8.8.8 53'],
      forwarders: ['8.8.8.8 53'],
      listen: ['0.0.0.0 53', ':: 53'],
      encoded: [4],
      contexts: [4],
      mapper: '/run/ipref/mapper.sock',
      zones: [],
      notes: [],
    })
  })

  it('takes the domains of the server block where ipref names none', () => {
    const text = 'example.com, Example.ORG:5300 dns://example.net {\n  ipref {\n    upstream 192.0.2.53:5353\n  }\n}\n'
    expect(accepted(text)).toMatchObject({
      domains: ['example.com.', 'example.org.', 'example.net.'],
      upstreams: ['192.0.2.53 5353'],
      listen: ['0.0.0.0 53', '0.0.0.0 5300', ':: 53', ':: 5300'],
    })
  })

  it('takes all of its words, several values, comments and quotes', () => {
    const text = `# a comment
.:1053 { # another
  bind 127.0.0.1 ::1
  errors
  log
  cache 30
  ipref a.example "b.example" {
    except x.a.example y.a.example # and a third
    upstream 192.0.2.1
    upstream [2001:db8::53]:5353
    ea-ipver 6
    gw-ipver 6
    mapper /run/other/mapper.sock
  }
  forward . 192.0.2.2 2001:db8::1 {
    max_concurrent 1000
  }
}`
    expect(accepted(text)).toEqual({
      domains: ['a.example.', 'b.example.'],
      except: ['x.a.example.', 'y.a.example.'],
      upstreams: ['192.0.2.1 53', '2001:db8::53 5353'],
      forwarders: ['192.0.2.2 53', '2001:db8::1 53'],
      listen: ['127.0.0.1 1053', '::1 1053'],
      encoded: [6],
      contexts: [6],
      mapper: '/run/other/mapper.sock',
      zones: [],
      notes: [
        'Corefile:5: log: questions are counted, not logged one by one',
        'Corefile:6: cache: the resolver has its own (-cache-size)',
        'Corefile:16: forward: max_concurrent has no effect',
      ],
    })
  })

  it('serves zones in blocks of their own, and to whom they may go', () => {
    const text = `example.org example.net:5300 {
  bind 10.1.0.1
  file db.example
  transfer {
    to 192.0.2.53 [2001:db8::53]:5300
  }
}
other.example {
  bind 10.1.0.2
  file db.other sub.other.example
  transfer {
    to *
  }
}
. {
  bind 10.1.0.3
  ipref {
    upstream 192.0.2.1
  }
}`
    const listen = ['10.1.0.1:53', '10.1.0.1:5300']
    const transferTo = ['192.0.2.53', '[2001:db8::53]:5300']
    expect(accepted(text)).toMatchObject({
      domains: ['.'],
      listen: ['10.1.0.3 53'],
      zones: [
        { origin: 'example.org', file: 'db.example', listen, transferTo },
        { origin: 'example.net', file: 'db.example', listen, transferTo },
        { origin: 'sub.other.example', file: 'db.other', listen: ['10.1.0.2:53'], transferTo: ['*'] },
      ],
    })
  })

  it('yields to the command line', () => {
    const text = '. {\n  ipref {\n    upstream 192.0.2.1\n  }\n}'
    const argv = ['-upstream', '192.0.2.9', '-listen', '127.0.0.1:5353', '-domain', 'x.example']
    expect(accepted(text, argv)).toMatchObject({
      upstreams: ['192.0.2.9 53'],
      listen: ['127.0.0.1 5353'],
      domains: ['x.example.'],
    })
  })
})

const block = (...lines: string[]) => `. {\n  ipref {\n    upstream 192.0.2.1\n  }\n${lines.join('\n')}\n}`

describe('a Corefile with something else in it is refused, by file and line', () => {
  it.each([
    [
      'another plugin',
      block('  prometheus :9153'),
      /^Corefile:5: prometheus is not known here; ipref, forward, bind, log, errors, cache, file and transfer are$/,
    ],
    ['a plugin with a block', block('  hosts {', '    192.0.2.1 a', '  }'), /^Corefile:5: hosts is not known here/],
    ['an import', block('  import snippet'), /^Corefile:5: import is not known here/],
    ['an import outside', `import other\n${block()}`, /^Corefile:1: import: expected a server block/],
    ['a snippet', `(all) {\n  errors\n}\n${block()}`, /^Corefile:1: \(all\): snippets are not read$/],
    [
      'another word of ipref',
      '. {\n  ipref {\n    upstream 192.0.2.1\n    ttl 30\n  }\n}',
      /^Corefile:4: ipref: ttl is none of except, upstream, ea-ipver, gw-ipver, mapper$/,
    ],
    [
      'a word of ipref without a value',
      '. {\n  ipref {\n    upstream\n  }\n}',
      /^Corefile:3: ipref: upstream: a value is missing$/,
    ],
    [
      'an upstream that is no address',
      '. {\n  ipref {\n    upstream tls://192.0.2.1\n  }\n}',
      /^Corefile:3: upstream: tls:\/\/192\.0\.2\.1 is no address of a server/,
    ],
    [
      'an IP version that is none',
      '. {\n  ipref {\n    upstream 192.0.2.1\n    ea-ipver 5\n  }\n}',
      /^Corefile:4: ea-ipver: 5 is no IP version/,
    ],
    [
      'a domain that is none',
      '. {\n  ipref a..example {\n    upstream 192.0.2.1\n  }\n}',
      /^Corefile:2: domain: a\.\.example is no domain name/,
    ],
    [
      'a network as domain',
      '10.0.0.0/8 {\n  ipref {\n    upstream 192.0.2.1\n  }\n}',
      /^Corefile:1: 10\.0\.0\.0\/8 is no domain; write networks as names below in-addr\.arpa/,
    ],
    [
      'another protocol',
      'tls://example.com {\n  ipref {\n    upstream 192.0.2.1\n  }\n}',
      /^Corefile:1: tls:\/\/example\.com: only plain DNS is served$/,
    ],
    [
      'a port that is none',
      'example.com:70000 {\n  ipref {\n    upstream 192.0.2.1\n  }\n}',
      /^Corefile:1: 0\.0\.0\.0:70000 is no address to listen on/,
    ],
    [
      'an interface',
      block('  bind eth0'),
      /^Corefile:5: eth0:53 is no address to listen on; interfaces are not looked up$/,
    ],
    [
      'forwarding of a domain',
      block('  forward example.com 192.0.2.1'),
      /^Corefile:5: forward: write `forward \. ADDRESS…`/,
    ],
    ['forwarding to nobody', block('  forward .'), /^Corefile:5: forward: write/],
    [
      'forwarding to a file that is not there',
      block('  forward . /nowhere/resolv.conf'),
      /^Corefile:5: forward: \/nowhere\/resolv\.conf is no address of a server .*, or file with lines/,
    ],
    [
      'forwarding elsewhere',
      `${block()}\nb.example {\n  forward . 192.0.2.1\n}`,
      /^Corefile:8: forward: only in the server block with ipref$/,
    ],
    [
      'a zone beside ipref',
      block('  file db.example'),
      /^Corefile:5: file: put zones into a server block of their own/,
    ],
    [
      'a zone without a file',
      `${block()}\nb.example {\n  file\n}`,
      /^Corefile:8: file: the path of the zone is missing$/,
    ],
    [
      'a zone whose name is none',
      `${block()}\nb.example {\n  file db a..b\n}`,
      /^Corefile:8: file: a\.\.b is no domain$/,
    ],
    [
      'a transfer to nobody',
      `${block()}\nb.example {\n  file db\n  transfer {\n  }\n}`,
      /^Corefile:9: transfer: to whom is missing/,
    ],
    [
      'a transfer to a name',
      `${block()}\nb.example {\n  file db\n  transfer {\n    to ns1\n  }\n}`,
      /^Corefile:10: transfer: ns1 is no address/,
    ],
    [
      'another word of transfer',
      `${block()}\nb.example {\n  file db\n  transfer {\n    to *\n    from *\n  }\n}`,
      /^Corefile:11: transfer: from is not known/,
    ],
    ['two ipref', `${block()}\n${block()}`, /^Corefile:7: a second server block with ipref; there can be one$/],
    ['no ipref', '. {\n  errors\n}', /^Corefile:1: no server block has ipref in it$/],
    ['nothing', '', /^Corefile:1: no server block has ipref in it$/],
    ['a block that does not end', '. {\n  ipref {\n    upstream 192.0.2.1\n', /^Corefile:2: this { has no }$/],
    ['an end without a beginning', `${block()}\n}`, /^Corefile:7: a } without its {$/],
    ['a block without a name', `. {\n  {\n    a\n  }\n}`, /^Corefile:2: a { without a name before it$/],
    ['a server block without a name', '{\n  ipref\n}', /^Corefile:1: a { without a name before it$/],
    [
      'blocks in blocks without end',
      'a {\n'.repeat(100_000),
      /^Corefile:11: this { is in 10 others: the rest is not read$/,
    ],
    ['a quote that does not end', block('  bind "127.0.0.1'), /^Corefile:5: a " without its end/],
  ])('%s', (_, text, expected) => {
    expect(
      problems(text).some(problem => expected.test(problem)),
      JSON.stringify(problems(text)),
    ).toBe(true)
  })

  it('a file that is not there', () => {
    const parsed = parseResolverConfig(['-corefile', 'none'], () => {
      throw Object.assign(new Error(), { code: 'ENOENT' })
    })
    expect(parsed).toMatchObject({
      problems: [expect.stringMatching(/^-corefile none: cannot be read \(ENOENT\)$/), expect.anything()],
    })
  })

  it('no text makes it throw', () => {
    const pieces = [
      '{',
      '}',
      '\n',
      '.',
      'ipref',
      'forward',
      'file',
      'transfer',
      'to',
      'bind',
      '"',
      '#',
      ',',
      ':53',
      '(x)',
      '*',
      '::',
      '\\',
      'x',
    ]
    let state = 7
    for (let i = 0; i < 3000; i++) {
      const words: string[] = []
      for (let k = 0; k < 14; k++) {
        state = (Math.imul(state, 1103515245) + 12345) >>> 0
        words.push(pieces[(state >>> 8) % pieces.length]!)
      }
      const text = words.join(' ')
      expect(() => read(text), text).not.toThrow()
    }
  })
})
