package plan

// A Key is the public half of a key that can read backups.
type Key struct {
	Recipient string   `yaml:"recipient" plan:"required"` // "age1…"
	Holders   []string `yaml:"holders"`                   // people who have the private half
	Offline   bool     `yaml:"offline"`                   // the private half is on no computer
	// Stored says where the private half is kept, in words: "safe at the notary". The id of
	// a location, facility, supplier, service or store, or the domain of a location, says
	// that it lies there, and is lost with it.
	Stored string `yaml:"stored"`
	// Created is the day on which the key was made.
	Created Date `yaml:"created"`
	// RotateEvery is how long the key is used at most, counted from Created or else from the
	// first plan in force that names it. Then it is to be replaced.
	//
	// Defaults to no limit.
	RotateEvery Period `yaml:"rotate_every"`
	// Challenge is how often each holder shows that the private half still opens a backup.
	//
	// Defaults to never: whether the key still exists is then not known.
	Challenge Recurrence `yaml:"challenge"`
	// ChallengeWithin is how long a holder has to answer.
	//
	// Defaults to 7d.
	ChallengeWithin Period `yaml:"challenge_within"`
	// Shares says who keeps a part of the private half. "holdfast key split" makes the
	// parts and prints what to write here.
	Shares *KeyShares `yaml:"shares"`
}

// KeyShares are the parts of a split key.
type KeyShares struct {
	Needed  int               `yaml:"needed" plan:"required"`  // shares that bring the key back
	Holders map[string]string `yaml:"holders" plan:"required"` // person to the recipient of their share
}

// Repository says how backups are written.
type Repository struct {
	ID string `yaml:"id"` // names the repository for good, in every location
	// EncryptTo names the keys that can read every backup.
	EncryptTo []string `yaml:"encrypt_to"`
	// AllowOneRecipient permits a single key. Its loss is the loss of every backup.
	AllowOneRecipient bool `yaml:"allow_one_recipient"`
	// Stated is what the policy says about encryption, in its own words.
	Stated string `yaml:"stated"`
	// TLSMin is the oldest version of TLS that locations may speak, "1.2" or "1.3".
	// Nothing is sent to one that is older. A gateway of ours speaks 1.3 only.
	//
	// Defaults to 1.2.
	TLSMin string `yaml:"tls_min"`
	// Approved limits where backups may lie. Locations outside it are refused.
	Approved *ApprovedPlaces `yaml:"approved"`
	// StandardRetention is how long the policy keeps every backup. One that keeps for
	// less or longer says why (retention.why). What a history keeps beside is not compared.
	//
	// Defaults to none: each backup decides for itself.
	StandardRetention Period `yaml:"standard_retention"`
	// DedupEpoch is how long the chunks of a store are named by one key. Whoever has that
	// key and can read a location's objects, though not open them, can find out whether
	// content that he knows is among them. The first backup after its end takes a new key
	// and stores all content anew, once; older snapshots stay readable.
	//
	// At least 1d. Defaults to none: "holdfast key rotate --dedup" changes the key.
	DedupEpoch Period `yaml:"dedup_epoch"`
}

// ApprovedPlaces limits where backups may lie. An empty list allows everything of its kind.
// No new backup goes to a place outside them, or to any once Until is over; what lies there
// can be read and restored.
type ApprovedPlaces struct {
	Kinds         []LocationKind `yaml:"kinds"`         // of locations
	Locations     []string       `yaml:"locations"`     // by the names of the plan
	Providers     []string       `yaml:"providers"`     // as the locations name them
	Regions       []string       `yaml:"regions"`       // as the locations name them
	Jurisdictions []string       `yaml:"jurisdictions"` // as the locations name them
	By            string         `yaml:"by"`            // who approved them
	Until         Date           `yaml:"until"`         // when they are looked at again
	Stated        string         `yaml:"stated"`        // the policy's words
}

// A LocationKind says what a place is.
type LocationKind string

// The kinds of location that this version writes to.
const (
	KindDir     LocationKind = "dir"
	KindS3      LocationKind = "s3"
	KindSFTP    LocationKind = "sftp"
	KindGateway LocationKind = "gateway"
)

func (LocationKind) words() []string {
	return []string{string(KindDir), string(KindS3), string(KindSFTP), string(KindGateway)}
}

// A Location is one place that holds backups.
type Location struct {
	Kind LocationKind `yaml:"kind" plan:"required"` // how it is reached; the section of that name says where

	Path    string           `yaml:"path" plan:"path"` // for kind dir: the folder
	S3      *S3Location      `yaml:"s3"`               // for kind s3
	SFTP    *SFTPLocation    `yaml:"sftp"`             // for kind sftp
	Gateway *GatewayLocation `yaml:"gateway"`          // for kind gateway

	// WriteMBPerSecond holds what is sent there back, all stores together, so that the
	// line is there for others.
	//
	// Defaults to 0: as fast as it can.
	WriteMBPerSecond int `yaml:"write_mb_per_second"`

	// Provider, Account, Region and Domain say what a place shares with others.
	// Two places with one failure domain count once. The domain "this-host" is the
	// machine of the stores themselves.
	//
	// Domain defaults to "this-host" for a folder, and to the name of the server for
	// s3 and sftp.
	Provider     string `yaml:"provider"`
	Account      string `yaml:"account"`      // two places of one account are lost together
	Region       string `yaml:"region"`       // two places of one region are lost together
	Domain       string `yaml:"domain"`       // what fails together, e.g. "this-host", "eu-1"
	Jurisdiction string `yaml:"jurisdiction"` // whose law holds there
	// Redundancy is how the place itself survives a failing part, in its operator's word:
	// "3 zones", "one disk". It cannot be asked of the place.
	Redundancy string `yaml:"redundancy"`
	// Encryption is how the place encrypts what lies there, beside ours: "AES256" or
	// "aws:kms" for a bucket, "dm-crypt" for a folder, "none". Where the place can be asked,
	// another answer is a deviation.
	//
	// Defaults to what the place said first.
	Encryption string `yaml:"encryption"`
	// Supplier and Facility are who and what it rests on.
	Supplier string `yaml:"supplier"`
	Facility string `yaml:"facility"` // the building in which it stands
	// Credential names who can write and delete there, and Payer whose bill keeps it:
	// two places that one login or one unpaid bill ends are one place.
	Credential string `yaml:"credential"`
	Payer      string `yaml:"payer"` // whose bill keeps it
	// Owner is the role or person who answers for it.
	Owner string `yaml:"owner"`
}

// S3Location is a bucket of an S3-compatible object store. "holdfast location test"
// says what it guarantees.
type S3Location struct {
	// Endpoint is the address of the object store, such as
	// https://s3.eu-central-1.amazonaws.com.
	Endpoint string `yaml:"endpoint" plan:"required"`
	// Region is the region that requests are signed for.
	//
	// Defaults to us-east-1, which object stores without regions take.
	Region string `yaml:"region"`
	Bucket string `yaml:"bucket" plan:"required"` // the bucket that holds the copies
	// Prefix is put before the name of every object, so that a bucket can hold more
	// than backups.
	Prefix string `yaml:"prefix"`
	// Style says where the name of the bucket stands: "host" (bucket.endpoint) or
	// "path" (endpoint/bucket).
	//
	// Defaults to what the endpoint is known to want.
	Style S3Style `yaml:"style"`
	// CredentialsFile holds the access key in two lines, access_key_id = … and
	// secret_access_key = …, readable by its owner only.
	//
	// Defaults to the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
	CredentialsFile string `yaml:"credentials_file" plan:"path"`
	// CAFile holds the certificates of the only authorities that may vouch for the
	// server, in PEM form.
	//
	// Defaults to the system's authorities.
	CAFile string `yaml:"ca_file" plan:"path"`
	// Insecure allows http instead of https to a server on this machine. Content is
	// sealed all the same; names, sizes and the right to write are open to who may listen
	// here. To another machine nothing goes by http.
	Insecure bool `yaml:"insecure"`
	// WriteOnly says that these credentials may put and nothing else, as a source agent's
	// should: nothing is asked of the bucket, not even whether it is the right one. What
	// an attacker with them can still do, the bucket's versions and lock must bound.
	WriteOnly bool `yaml:"write_only"`
	// Lock makes every object undeletable, by anybody, until this long after it was
	// written. The bucket needs object lock. Choose it as long as backups are kept; the
	// vault renews it while newer snapshots use an older object.
	//
	// Defaults to no lock by Holdfast; the bucket may have a retention of its own.
	Lock Period `yaml:"lock"`
}

// GatewayLocation is a place behind a gateway of ours, which gives out less than the
// place itself would: "holdfast gateway".
type GatewayLocation struct {
	// Address is https://HOST:PORT.
	Address string `yaml:"address" plan:"required"`
	// IdentityFile holds what "holdfast gateway enroll" wrote, readable by its owner
	// only. What this machine may do there follows from it: a writer only writes.
	IdentityFile string `yaml:"identity_file" plan:"required,path"`
}

// S3Style says where the name of a bucket stands in an address.
type S3Style string

// The styles.
const (
	S3Path S3Style = "path"
	S3Host S3Style = "host"
)

func (S3Style) words() []string { return []string{string(S3Path), string(S3Host)} }

// SFTPLocation is a folder of another machine, over SSH.
type SFTPLocation struct {
	// Host is the server, with its port unless that is 22: "backup.example.com:2222".
	Host string `yaml:"host" plan:"required"`
	User string `yaml:"user" plan:"required"` // who logs in there
	// Path is the folder on the server; without a slash at its beginning it is
	// relative to the account's home.
	Path string `yaml:"path" plan:"required"`
	// KeyFile holds the private key that logs in, without passphrase, readable by
	// its owner only.
	KeyFile string `yaml:"key_file" plan:"required,path"`
	// HostKey is the fingerprint of the server's key, "SHA256:…", as
	// "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" shows it on the server.
	// Either it or KnownHosts is needed: no other server is talked to.
	HostKey string `yaml:"host_key"`
	// KnownHosts is a file of server keys in the form of OpenSSH.
	KnownHosts string `yaml:"known_hosts" plan:"path"`
}
