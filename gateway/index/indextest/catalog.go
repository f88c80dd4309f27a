package indextest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// Words that names, abstracts and items of real catalogs are made of. Nothing
// else of a real catalog is in here.
var (
	subjects = strings.Fields(`企业登记 个体工商户 婚姻登记 出生医学证明 不动产权 社会保险 住房公积金 医疗保险 最低生活保障 残疾人 退役军人 流动人口
		户籍人口 驾驶证 机动车 行政许可 行政处罚 食品经营 药品经营 建设工程 施工许可 排污许可 水资源 空气质量 气象预警 森林资源 耕地保护 农机购置
		高等教育 义务教育 教师资格 职业技能 就业失业 养老机构 社会组织 公共图书馆 文物保护 旅游景区 体育场馆 道路运输 公共交通 港口码头
		邮政快递 电子证照 信用评价 纳税信用 政府采购 招标投标 财政预算 统计年鉴 应急预案 安全生产 消防验收 地震监测 法律援助 公证服务`)
	forms   = strings.Fields(`信息 名单 目录 统计 备案信息 核验接口 年度报告 变更记录 明细 台账`)
	scopes  = strings.Fields(`全市 市直 区县 街道 园区 流域 口岸 新区`)
	fields  = strings.Fields(`统一社会信用代码 名称 类型 住所 法定代表人类别 成立日期 有效期自 有效期至 发证机关 证书编号 状态 登记机关 行政区划 经营范围 注册资本 核准日期 许可编号 处罚事由 面积 用途 坐标 监测值 更新时间 备注`)
	systems = strings.Fields(`综合业务 审批 监管 核验 数据归集 信用 监测 档案`)
	latin   = strings.Fields(`register license permit archive survey monitor report index credit vehicle school water`)
	themes  = strings.Fields(`经济建设 资源环境 教育科技 道路交通 社会发展 公共安全 文化休闲 卫生健康 民生服务 机构团体 城市建设 城市安全`)
)

// provider answers one of 40 departments; the first has many more entries than
// the last.
func provider(r *rand.Rand) domain.DepartmentCode {
	return domain.DepartmentCode(fmt.Sprintf("dept%02d", int(40*r.Float64()*r.Float64())))
}

// CatalogContent answers the content of the nth of many catalog entries, of the
// length and with the words of real ones. Equal numbers give equal contents.
func CatalogContent(n int) domain.CatalogContent {
	r := rand.New(rand.NewPCG(uint64(n), 3)) //nolint:gosec // samples, not secrets
	one := func(words []string) string { return words[r.IntN(len(words))] }
	subject, form := one(subjects), one(forms)
	shareType := []domain.ShareType{domain.Unconditional, domain.Unconditional, domain.Conditional, domain.NotShared}[r.IntN(4)]
	c := domain.CatalogContent{
		Code: fmt.Sprintf("3%02d%03d/%06d", r.IntN(40), r.IntN(60), n), Name: fmt.Sprintf("%s%s%s（%d）", one(scopes), subject, form, n),
		Abstract: fmt.Sprintf("记录%s范围内%s的%s，由%s系统归集，供%s与%s等事项核对使用。%s data, series K%05d",
			one(scopes), subject, form, one(systems), one(subjects), one(subjects), one(latin), n/7),
		ProviderUSCC: "11100000MB0143028R", Classification: one(themes), Format: "database", ShareType: shareType, ShareMode: "platform_table",
		OpenType: domain.NotOpen, UpdateCycle: "monthly", DutyRef: one(subjects) + "管理", SystemRef: one(scopes) + one(systems) + "系统",
		RegionCode: "110000", Level: 2, PersonalData: "none", LegalBasis: []string{}, RelatedCodes: []string{},
	}
	if shareType == domain.Conditional {
		c.ShareCondition = "仅用于核验"
	}
	if shareType != domain.Unconditional {
		c.LegalBasis = append(c.LegalBasis, "政务数据共享条例")
	}
	for _, i := range r.Perm(len(fields))[:4+r.IntN(10)] {
		c.Items = append(c.Items, domain.CatalogItem{Name: fields[i], Type: "C", Level: 1 + i%2, ShareType: max(shareType, domain.Unconditional)})
	}
	return c
}

var catalogStates = []domain.CatalogState{
	domain.CatalogPublished, domain.CatalogPublished, domain.CatalogPublished, domain.CatalogRegPending, domain.CatalogRegistered, domain.CatalogPublished,
	domain.CatalogOffline, domain.CatalogPublished, domain.CatalogPublished, domain.CatalogPublished,
}

// Registrations is a transaction that registers the catalog entries from ≤ n < to
// as a batch does: for each its record and name, and an event for each provider.
func Registrations(from, to int) domain.Transaction {
	var records []any
	events := map[domain.DepartmentCode][]domain.CatalogStep{}
	for n := from; n < to; n++ {
		content := CatalogContent(n)
		entry := domain.CatalogEntry{
			Provider: provider(rand.New(rand.NewPCG(uint64(n), 5))), Reviewer: domain.SideLead, Version: 1, LastVersion: 1, Seq: 1, //nolint:gosec // samples
			State: catalogStates[n%len(catalogStates)], Content: content,
		}
		events[entry.Provider] = append(events[entry.Provider], domain.CatalogStep{Code: content.Code, Seq: 1, State: entry.State})
		records = append(records, "cat~"+content.Code, entry,
			domain.KeyOf(domain.KindCatalogName, domain.CatalogNameID(entry.Provider, content.Name)), content.Code)
	}
	for _, provider := range slices.Sorted(maps.Keys(events)) {
		records = append(records, "cate~"+digest("transaction %d", from)+"~"+string(provider), domain.CatalogEvent{Provider: provider, Entries: events[provider]})
	}
	t := Put(records...)
	t.Contract, t.Name, t.Arguments = "catalog", "RegisterBatch", []string{}
	return t
}
