package plan

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// complainer reports what is wrong at a path of the plan.
type complainer func(code, path, hint, format string, args ...any)

// Host returns the name of the server that holds a location, or "" for a folder.
func (l Location) Host() string {
	switch {
	case l.S3 != nil:
		if u, err := url.Parse(l.S3.address()); err == nil {
			return u.Hostname()
		}
	case l.Gateway != nil:
		if u, err := url.Parse(l.Gateway.Address); err == nil {
			return u.Hostname()
		}
	case l.SFTP != nil:
		if host, _, err := net.SplitHostPort(l.SFTP.Host); err == nil {
			return host
		}
		return l.SFTP.Host
	}
	return ""
}

// address is the endpoint with its scheme.
func (s S3Location) address() string {
	if strings.Contains(s.Endpoint, "://") {
		return s.Endpoint
	}
	return "https://" + s.Endpoint
}

// DomainOr returns what fails together with the location.
func (l Location) DomainOr() string {
	host := l.Host()
	if onThisHost(host) {
		host = ""
	}
	return cmp.Or(l.Domain, host, HostDomain)
}

func onThisHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

// TLSVersions are what repository.tls_min can say. Older ones are never spoken.
var TLSVersions = []string{"1.2", "1.3"}

// transport checks the oldest version of TLS.
func (d *decoder) transport(complain complainer, r Repository) {
	if r.TLSMin != "" && !slices.Contains(TLSVersions, r.TLSMin) {
		complain(codeValue, "repository.tls_min", "write \"1.2\" or \"1.3\"", "%q cannot be the oldest version of TLS: backups travel over 1.2 or newer only", r.TLSMin)
	}
}

// TLSFloor is the oldest version of TLS that is spoken with locations: "1.2" or "1.3".
func (r Repository) TLSFloor() string {
	return cmp.Or(r.TLSMin, TLSVersions[0])
}

// Address says in one line where the location is. No secret is in it.
func (l Location) Address() string {
	switch {
	case l.S3 != nil:
		return strings.TrimSuffix(strings.TrimSuffix(l.S3.address(), "/")+"/"+l.S3.Bucket+"/"+strings.Trim(l.S3.Prefix, "/"), "/")
	case l.Gateway != nil:
		return strings.TrimSuffix(l.Gateway.Address, "/")
	case l.SFTP != nil:
		return fmt.Sprintf("sftp://%s@%s/%s", l.SFTP.User, l.SFTP.Host, strings.TrimPrefix(l.SFTP.Path, "/"))
	}
	return l.Path
}

var (
	bucketName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixForm  = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?$`)
	fingerprint = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)
)

// place checks the fields of one location against its kind.
func (d *decoder) place(complain complainer, path string, l Location) {
	for _, k := range []struct {
		kind LocationKind
		key  string
		set  bool
	}{{KindDir, "path", l.Path != ""}, {KindS3, "s3", l.S3 != nil}, {KindSFTP, "sftp", l.SFTP != nil}, {KindGateway, "gateway", l.Gateway != nil}} {
		switch {
		case l.Kind == k.kind && !k.set:
			complain(codeEmpty, path, fmt.Sprintf("add \"%s: …\"", k.key), "%q is of kind %s and lacks %q", path, k.kind, k.key)
		case l.Kind != "" && l.Kind != k.kind && k.set:
			complain(codeField, path+"."+k.key, "remove it, or change the kind", "%q is of kind %s and has a field for %s", path, l.Kind, k.kind)
		}
	}
	if l.WriteMBPerSecond < 0 {
		complain(codeValue, path+".write_mb_per_second", "write a number of megabytes, or leave it away for no limit", "%q is less than nothing", path+".write_mb_per_second")
	}
	if l.S3 != nil {
		placeS3(complain, path+".s3", *l.S3)
	}
	if l.SFTP != nil {
		placeSFTP(complain, path+".sftp", *l.SFTP)
	}
	if g := l.Gateway; g != nil && g.Address != "" {
		if u, err := url.Parse(g.Address); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
			complain(codeValue, path+".gateway.address", "write https://HOST:PORT", "%q is not the address of a gateway", path+".gateway.address")
		}
	}
}

func placeS3(complain complainer, path string, s S3Location) {
	if s.Endpoint != "" {
		u, err := url.Parse(s.address())
		switch {
		case err == nil && u.User != nil || err != nil && strings.Contains(s.Endpoint, "@"):
			complain(codeSecret, path+".endpoint", "write the access key into a file that only its owner can read, and name it by credentials_file",
				"%q holds a login; secrets are never in a plan", path+".endpoint")
		case err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Scheme != "http" && u.Scheme != "https":
			complain(codeValue, path+".endpoint", "write an address such as https://s3.eu-central-1.amazonaws.com; bucket and prefix have fields of their own",
				"%q is not the address of an object store", path+".endpoint")
		case u.Scheme == "http" && !onThisHost(u.Hostname()):
			complain(codeValue, path+".endpoint", "write https; ca_file takes a certificate of your own authority", "%q is plain http to another machine; backups travel over TLS 1.2 or newer only", path+".endpoint")
		case u.Scheme == "http" && !s.Insecure:
			complain(codeValue, path+".endpoint", "write https, or \"insecure: true\" for this server on this machine", "%q is plain http, and nothing declares it", path+".endpoint")
		}
	}
	if s.Bucket != "" && !bucketName.MatchString(s.Bucket) {
		complain(codeValue, path+".bucket", "use the bucket's name alone: 3 to 63 small letters, digits, dots and dashes", "%q cannot be a bucket", s.Bucket)
	}
	if s.Prefix != "" && (!prefixForm.MatchString(s.Prefix) || strings.Contains("/"+s.Prefix, "/.")) {
		complain(codeValue, path+".prefix", "use letters, digits, dots, dashes and slashes, such as backups/holdfast", "%q cannot be a prefix", s.Prefix)
	}
	if s.Lock.Approx() < 0 {
		complain(codeValue, path+".lock", "write a period such as 30d", "%q is not a time to come", path+".lock")
	}
}

func placeSFTP(complain complainer, path string, s SFTPLocation) {
	if i := strings.LastIndexByte(s.Host, '@'); i >= 0 {
		code, what := codeValue, "an account"
		if strings.Contains(s.Host[:i], ":") {
			code, what = codeSecret, "a login"
		}
		complain(code, path+".host", "write the account under user, and let it log in by key_file", "%q holds %s", path+".host", what)
	} else if strings.Contains(s.Host, "/") {
		complain(codeValue, path+".host", "write the server alone, such as backup.example.com:2222", "%q is not a server", path+".host")
	}
	switch {
	case s.HostKey == "" && s.KnownHosts == "":
		complain(codeEmpty, path, "add \"host_key: SHA256:…\"; on the server, \"ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\" shows it", "%q does not say how the server is known", path)
	case s.HostKey != "" && s.KnownHosts != "":
		complain(codeValue, path+".host_key", "keep host_key or known_hosts", "%q says in two ways how the server is known", path)
	case s.HostKey != "" && !fingerprint.MatchString(s.HostKey):
		complain(codeValue, path+".host_key", "write SHA256: and the 43 characters behind it, as ssh-keygen -l shows them", "%q is not a fingerprint", path+".host_key")
	}
}

// remote looks for what a location over a network could do better, and for two names
// of one place.
func (l *linter) remote() {
	at := map[string]string{}
	for _, id := range sorted(l.p.Locations) {
		loc, path := l.p.Locations[id], "locations."+id
		if loc.S3 == nil && loc.SFTP == nil && loc.Gateway == nil {
			continue
		}
		if first, ok := at[loc.Address()]; ok {
			l.fail(codeShared, path, "give each location a place of its own", "%q and %q are one place: %s", first, id, loc.Address())
		} else {
			at[loc.Address()] = id
		}
		s := loc.S3
		if s == nil {
			continue
		}
		if strings.HasPrefix(s.Endpoint, "http://") {
			l.warn(codeGuard, path+".s3.insecure", "use https; \"ca_file\" takes a certificate of your own authority", "%q is reached by plain http on this machine: names, sizes and requests are open to who may listen here", id)
		}
		if s.Lock == (Period{}) {
			continue
		}
		for _, b := range sorted(l.p.Backups) {
			_, copied := l.p.Backups[b].Copies[id]
			if keep := l.p.Backups[b].Keep; copied && keep.Approx() > s.Lock.Approx() {
				l.warn(codeGuard, path+".s3.lock", fmt.Sprintf("write \"lock: %s\", or longer", keep), "%q locks for %s what %q keeps for %s: after that it can be deleted", id, s.Lock, b, keep)
			}
		}
	}
}
