package app

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/job"
	"holdfast/internal/web"
)

// What the page of work shows at most.
const (
	jobDays  = 7
	jobItems = 100
	jobRuns  = 100
)

// Jobs is the history of work: the records of runs, and of slots those that were missed.
func (p pages) Jobs(ctx context.Context, now time.Time) (web.Jobs, error) {
	today := now.UTC().Truncate(24 * time.Hour)
	since := today.AddDate(0, 0, 1-jobDays)
	v := web.Jobs{}
	for i := range jobDays {
		v.Days = append(v.Days, since.AddDate(0, 0, i))
	}
	counts, err := p.a.Jobs.RunCounts(ctx, since)
	if err != nil {
		return v, err
	}
	missed, err := p.a.Jobs.MissedSince(ctx, since)
	if err != nil {
		return v, err
	}
	items := map[string]*web.JobItem{}
	on := func(item string, day time.Time) *web.JobDay {
		x := items[item]
		if x == nil {
			x = &web.JobItem{Item: item, Days: make([]web.JobDay, jobDays)}
			if store, ok := strings.CutPrefix(item, "stores."); ok {
				x.Href = "/store/" + store
			}
			items[item] = x
		}
		return &x.Days[min(max(int(day.Sub(since)/(24*time.Hour)), 0), jobDays-1)]
	}
	for _, c := range counts {
		d := on(c.Item, c.Day)
		switch c.State {
		case job.RunDone:
			d.Good += c.N
		case job.RunShort, job.RunFailed, job.RunCancelled, job.RunLost:
			d.Bad += c.N
		}
	}
	for _, c := range missed {
		on(c.Schedule, c.Due).Missed++
	}
	trouble := func(x web.JobItem) (n int) {
		for _, d := range x.Days {
			n += d.Bad + d.Missed
		}
		return n
	}
	for _, name := range sortedKeys(items) {
		v.Items = append(v.Items, *items[name])
	}
	slices.SortStableFunc(v.Items, func(a, b web.JobItem) int { return cmp.Compare(min(trouble(b), 1), min(trouble(a), 1)) })
	v.More = max(len(v.Items)-jobItems, 0)
	v.Items = v.Items[:len(v.Items)-v.More]
	rs, err := p.a.Runs(ctx, api.RunQuery{Limit: jobRuns})
	for _, r := range rs {
		v.Runs = append(v.Runs, web.RunLine{ID: r.ID, Item: r.Item, Kind: r.Kind, Began: r.Began, Took: time.Duration(r.Seconds * float64(time.Second)), Result: r.Result, Bytes: r.Bytes,
			Digest: r.Digest, Locations: strings.Join(sortedKeys(r.Locations), ", "), Version: r.Program, Error: r.Error})
	}
	return v, err
}
