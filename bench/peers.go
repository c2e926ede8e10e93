package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/seal"
	"holdfast/internal/source/postgres"
)

const (
	stanza         = "bench"
	archiveTimeout = 60       // seconds
	segmentSize    = 16 << 20 // of the log, as initdb makes it
)

// pgBackRest is the peer: two repositories, since bundling is a property of one.
type pgBackRest struct {
	dir     string
	name    string // with version
	blocks  bool   // whether this version can store blocks
	plain   string // configuration files
	bundled string
}

func newPgBackRest(b *bench) *pgBackRest {
	dir := filepath.Join(b.dir, "pgbackrest")
	return &pgBackRest{dir: dir, plain: filepath.Join(dir, "plain.conf"), bundled: filepath.Join(dir, "bundled.conf")}
}

func repository(config string) string { return strings.TrimSuffix(config, ".conf") }

// archiveCommand gives every segment to both repositories. The plain one is first,
// so that what is measured at it does not wait for the other.
func (p *pgBackRest) archiveCommand() string {
	push := func(config string) string {
		return fmt.Sprintf("pgbackrest --config=%s --stanza=%s archive-push %%p", config, stanza)
	}
	return push(p.plain) + " && " + push(p.bundled)
}

// bundledName says what the second repository does.
func (p *pgBackRest) bundledName() string {
	if p.blocks {
		return p.name + " bundle+block"
	}
	return p.name + " bundle" // this version has no block storage
}

// configure writes the configurations: encrypted, as ours always is.
func (p *pgBackRest) configure(b *bench) error {
	out, err := b.output(context.Background(), "pgbackrest", "version")
	if err != nil {
		return err
	}
	p.name = strings.TrimSpace(out)
	_, minor, _ := strings.Cut(strings.TrimPrefix(p.name, "pgBackRest "), ".")
	minor, _, _ = strings.Cut(minor, ".")
	const blocksSince = 46 // 2.46
	p.blocks = number(minor) >= blocksSince
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return err
	}
	secret := seal.NewMACKey()
	for _, config := range []string{p.plain, p.bundled} {
		if err := os.Mkdir(repository(config), 0o700); err != nil {
			return err
		}
		lines := []string{
			"[global]", "repo1-path=" + repository(config), "repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=" + hex.EncodeToString(secret[:]),
			"repo1-retention-full=1000", "compress-type=zst", "compress-level=3", "process-max=" + strconv.Itoa(processes), "start-fast=y",
			"log-level-console=warn", "log-level-file=off", "lock-path=" + filepath.Join(p.dir, "lock"), "log-path=" + p.dir, "spool-path=" + p.dir,
		}
		if config == p.bundled {
			lines = append(lines, "repo1-bundle=y")
			if p.blocks {
				lines = append(lines, "repo1-block=y")
			}
		}
		lines = append(lines, "["+stanza+"]", "pg1-path="+b.dataDir(), "pg1-socket-path="+b.socketDir(), "pg1-port="+strconv.Itoa(port), "pg1-user=postgres", "")
		if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			return err
		}
	}
	return b.account.Own(p.dir)
}

func (b *bench) setUpPeer(ctx context.Context) (version string, err error) {
	for _, config := range []string{b.peer.plain, b.peer.bundled} {
		if err := b.backrest(ctx, config, "stanza-create"); err != nil {
			return "", err
		}
	}
	for _, config := range []string{b.peer.plain, b.peer.bundled} {
		if err := b.backrest(ctx, config, "check"); err != nil {
			return "", err
		}
	}
	return b.peer.name, nil
}

func (b *bench) backrest(ctx context.Context, config string, args ...string) error {
	return b.command(ctx, "pgbackrest", append([]string{"--config=" + config, "--stanza=" + stanza}, args...)...)
}

// peerBackup takes a full backup with pgBackRest.
func (b *bench) peerBackup(ctx context.Context, what, config string) (cost, error) {
	c, err := b.timed(what, false, func() error { return b.backrest(ctx, config, "--type=full", "backup") })
	if err != nil {
		return c, err
	}
	label, err := newestBackup(filepath.Join(repository(config), "backup", stanza), "F")
	if err != nil {
		return c, err
	}
	c.stored, err = stored(label)
	return c, err
}

// newestBackup returns the folder of the newest backup of a kind, the last letter of
// its name: F full, I increment.
func newestBackup(dir, kind string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	newest := ""
	for _, e := range entries {
		if e.IsDir() && strings.HasSuffix(e.Name(), kind) && e.Name() > newest {
			newest = e.Name()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("no backup in %q", dir)
	}
	return filepath.Join(dir, newest), nil
}

// plainCopy takes a copy with pg_basebackup, and removes it.
func (b *bench) plainCopy(ctx context.Context) (cost, error) {
	dir := filepath.Join(b.dir, "copy")
	if err := b.ownedDir(dir); err != nil {
		return cost{}, err
	}
	c, err := b.timed("pg_basebackup", false, func() error {
		return b.command(ctx, filepath.Join(b.binDir, "pg_basebackup"), "-h", b.socketDir(), "-p", strconv.Itoa(port), "-U", role,
			"-D", dir, "-F", "plain", "-X", "none", "-c", "fast", "--no-slot")
	})
	if err == nil {
		c.stored, err = stored(dir)
	}
	return c, errors.Join(err, os.RemoveAll(dir))
}

// ownedDir makes an empty folder of the server's account.
func (b *bench) ownedDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return b.account.Own(dir)
}

// peerRestore restores the newest backup, starts the server and asks.
func (b *bench) peerRestore(ctx context.Context, want string) (parts restoreCost, err error) {
	dir := filepath.Join(b.dir, "theirs")
	if err := b.ownedDir(dir); err != nil {
		return parts, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(dir+".run")) }()
	var srv *postgres.Server
	parts.cost, err = b.timed("pgBackRest restore", false, func() error {
		began := time.Now()
		if err := b.backrest(ctx, b.peer.plain, "--pg1-path="+dir, "restore"); err != nil {
			return err
		}
		parts.fetch = time.Since(began).Seconds()
		began = time.Now()
		// It must not push into the repository that it comes from.
		srv, err = postgres.StartServer(ctx, b.account, postgres.ServerConfig{BinDir: b.binDir, DataDir: dir, Options: map[string]string{"archive_mode": "off"}})
		if err != nil {
			return err
		}
		for {
			in, err := srv.Value(ctx, "SELECT pg_is_in_recovery()")
			if err != nil {
				return err
			}
			if in == "f" {
				break
			}
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		if _, err := srv.QueryIn(ctx, database, firstQuery); err != nil {
			return err
		}
		parts.replay = time.Since(began).Seconds()
		return nil
	})
	if srv == nil {
		return parts, err
	}
	if err == nil {
		err = parts.andServer(dir)
	}
	if err == nil {
		err = same(want, func() (string, error) {
			rows, err := srv.QueryIn(ctx, database, wholeQuery)
			if err != nil || len(rows) != 1 {
				return "", err
			}
			return rows[0][0], nil
		})
	}
	return parts, errors.Join(err, srv.Stop(context.WithoutCancel(ctx)))
}

// archivedTo is the position up to which whole segments lie in the archive.
func (p *pgBackRest) archivedTo() (uint64, error) {
	newest := ""
	err := filepath.WalkDir(filepath.Join(repository(p.plain), "archive", stanza), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _, ok := strings.Cut(d.Name(), "-")
		if ok && d.Type().IsRegular() && len(name) == 24 && strings.HasSuffix(d.Name(), ".zst") && name > newest {
			newest = name
		}
		return nil
	})
	if err != nil || newest == "" {
		return 0, errors.Join(err, errors.New("nothing is archived"))
	}
	hi, err1 := strconv.ParseUint(newest[8:16], 16, 32)
	lo, err2 := strconv.ParseUint(newest[16:], 16, 32)
	return hi<<32 + (lo+1)*segmentSize, errors.Join(err1, err2)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
