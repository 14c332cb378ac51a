"""Purposes: those of the Data Privacy Vocabulary (W3C DPVCG, DPV 2.0), and a city's own, which may be tied to one.

The terms and their English labels are DPV's (https://w3id.org/dpv/2.0, module "purposes"); IRIs are those of the
namespace without a version, which DPV keeps pointing at the newest. The Japanese labels are this project's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from datasov.errors import InvalidQueryError
from datasov.model.consent import check_purpose
from datasov.model.mynumber import check_text

PREFIX, NAMESPACE = "dpv:", "https://w3id.org/dpv#"
_MAX_LABEL = 200

DPV = {
    "AcademicResearch": ("Academic Research", "学術研究"),
    "AccountManagement": ("Account Management", "アカウント管理"),
    "Advertising": ("Advertising", "広告"),
    "AgeVerification": ("Age Verification", "年齢確認"),
    "CombatClimateChange": ("Combat Climate Change", "気候変動への対策"),
    "CommercialPurpose": ("Commercial Purpose", "営利目的"),
    "CommercialResearch": ("Commercial Research", "営利目的の研究"),
    "CommunicationForCustomerCare": ("Communication for Customer Care", "利用者支援のための連絡"),
    "CommunicationManagement": ("Communication Management", "連絡の管理"),
    "CounterMoneyLaundering": ("Counter Money Laundering", "資金洗浄の防止"),
    "Counterterrorism": ("Counterterrorism", "テロ対策"),
    "CreditChecking": ("Credit Checking", "信用調査"),
    "CustomerCare": ("Customer Care", "利用者支援"),
    "CustomerClaimsManagement": ("Customer Claims Management", "請求・苦情の管理"),
    "CustomerManagement": ("Customer Management", "顧客管理"),
    "CustomerOrderManagement": ("Customer Order Management", "注文の管理"),
    "CustomerRelationshipManagement": ("Customer Relationship Management", "顧客関係の管理"),
    "CustomerSolvencyMonitoring": ("Customer Solvency Monitoring", "支払能力の監視"),
    "DataAltruism": ("Data Altruism", "公益のためのデータ提供"),
    "DeliveryOfGoods": ("Delivery of Goods", "商品の配送"),
    "DirectMarketing": ("Direct Marketing", "ダイレクトマーケティング"),
    "DisputeManagement": ("Dispute Management", "紛争の管理"),
    "EnforceAccessControl": ("Enforce Access Control", "アクセス制御の実施"),
    "EnforceSecurity": ("Enforce Security", "安全の確保"),
    "EstablishContractualAgreement": ("Establish Contractual Agreement", "契約の締結"),
    "FraudPreventionAndDetection": ("Fraud Prevention and Detection", "不正の防止と検知"),
    "FulfilmentOfContractualObligation": ("Fulfilment of Contractual Obligation", "契約上の義務の履行"),
    "FulfilmentOfObligation": ("Fulfilment of Obligation", "義務の履行"),
    "HumanResourceManagement": ("Human Resource Management", "人事管理"),
    "IdentityAuthentication": ("Identity Authentication", "本人認証"),
    "IdentityVerification": ("Identity Verification", "本人確認"),
    "ImproveExistingProductsAndServices": ("Improve Existing Products and Services", "既存の製品・サービスの改善"),
    "ImproveHealthcare": ("Improve Healthcare", "医療の改善"),
    "ImproveInternalCRMProcesses": ("Improve Internal CRM Processes", "内部の顧客管理業務の改善"),
    "ImprovePublicServices": ("Improve Public Services", "公共サービスの改善"),
    "ImproveTransportMobility": ("Improve Transport and Mobility", "交通と移動の改善"),
    "IncreaseServiceRobustness": ("Increase Service Robustness", "サービスの頑健性の向上"),
    "InternalResourceOptimisation": ("Internal Resource Optimisation", "内部資源の最適化"),
    "LegalCompliance": ("Legal Compliance", "法令の遵守"),
    "MaintainCreditCheckingDatabase": ("Maintain Credit Checking Database", "信用調査データベースの維持"),
    "MaintainCreditRatingDatabase": ("Maintain Credit Rating Database", "信用格付けデータベースの維持"),
    "MaintainFraudDatabase": ("Maintain Fraud Database", "不正データベースの維持"),
    "Marketing": ("Marketing", "マーケティング"),
    "MemberPartnerManagement": ("Members and Partners Management", "会員・提携先の管理"),
    "MisusePreventionAndDetection": ("Misuse, Prevention and Detection", "濫用の防止と検知"),
    "NonCommercialPurpose": ("Non-commercial Purpose", "非営利目的"),
    "NonCommercialResearch": ("Non-Commercial Research", "非営利の研究"),
    "OptimisationForConsumer": ("Optimisation for Consumer", "利用者のための最適化"),
    "OptimisationForController": ("Optimisation for Controller", "管理者のための最適化"),
    "OptimiseUserInterface": ("Optimise User Interface", "操作画面の最適化"),
    "OrganisationComplianceManagement": ("Organisation Compliance Management", "組織の内部規程の遵守管理"),
    "OrganisationGovernance": ("Organisation Governance", "組織の統治"),
    "OrganisationRiskManagement": ("Organisation Risk Management", "組織のリスク管理"),
    "PaymentManagement": ("Payment Management", "支払いの管理"),
    "Personalisation": ("Personalisation", "個人に合わせた調整"),
    "PersonalisedAdvertising": ("Personalised Advertising", "個人に合わせた広告"),
    "PersonalisedBenefits": ("Personalised Benefits", "個人に合わせた特典"),
    "PersonnelHiring": ("Personnel Hiring", "職員の採用"),
    "PersonnelManagement": ("Personnel Management", "職員の管理"),
    "PersonnelPayment": ("Personnel Payment", "職員への支払い"),
    "ProtectionOfIPR": ("Protection of Intellectual Property Rights", "知的財産権の保護"),
    "ProtectionOfNationalSecurity": ("Protection of National Security", "国の安全の保護"),
    "ProtectionOfPublicSecurity": ("Protection of Public Security", "公共の安全の保護"),
    "ProvideEventRecommendations": ("Provide Event Recommendations", "催しの推薦"),
    "ProvideOfficialStatistics": ("Provide Official Statistics", "公的統計の作成"),
    "ProvidePersonalisedRecommendations": ("Provide Personalised Recommendations", "個人に合わせた推薦"),
    "ProvideProductRecommendations": ("Provide Product Recommendations", "製品の推薦"),
    "PublicBenefit": ("Public Benefit", "公益"),
    "PublicPolicyMaking": ("Public Policy Making", "公共政策の立案"),
    "PublicRelations": ("Public Relations", "広報"),
    "RecordManagement": ("Record Management", "記録の管理"),
    "RepairImpairments": ("Repair Impairments", "障害の修復"),
    "RequestedServiceProvision": ("Requested Service Provision", "求められたサービスの提供"),
    "ResearchAndDevelopment": ("Research and Development", "研究開発"),
    "RightsFulfillment": ("Rights Fulfillment", "権利の実現"),
    "ScientificResearch": ("Scientific Research", "科学研究"),
    "SearchFunctionalities": ("Search Functionalities", "検索機能"),
    "SellDataToThirdParties": ("Sell Data to Third Parties", "第三者へのデータの販売"),
    "SellInsightsFromData": ("Sell Insights from Data", "データから得た知見の販売"),
    "SellProducts": ("Sell Products", "製品の販売"),
    "SellProductsToDataSubject": ("Sell Products to Data Subject", "本人への製品の販売"),
    "ServiceOptimisation": ("Service Optimisation", "サービスの最適化"),
    "ServicePersonalisation": ("Service Personalisation", "サービスの個人向け調整"),
    "ServiceProvision": ("Service Provision", "サービスの提供"),
    "ServiceRegistration": ("Service Registration", "サービスへの登録"),
    "ServiceUsageAnalytics": ("Service Usage Analytics", "サービス利用の分析"),
    "SocialMediaMarketing": ("Social Media Marketing", "ソーシャルメディアでのマーケティング"),
    "TargetedAdvertising": ("Targeted Advertising", "ターゲティング広告"),
    "TechnicalServiceProvision": ("Technical Service Provision", "技術的なサービスの提供"),
    "UserInterfacePersonalisation": ("User Interface Personalisation", "操作画面の個人向け調整"),
    "VendorManagement": ("Vendor Management", "取引先の管理"),
    "VendorPayment": ("Vendor Payment", "取引先への支払い"),
    "VendorRecordsManagement": ("Vendor Records Management", "取引先の記録の管理"),
    "VendorSelectionAssessment": ("Vendor Selection Assessment", "取引先の選定と評価"),
    "Verification": ("Verification", "検証"),
}
"""Terms of DPV's purposes: English and Japanese label by name."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """A purpose as consents and the log name it, and what people call it.

    Attributes:
        name: of a city's own, or a term of DPV, as `dpv:ImproveTransportMobility`.
        within: the term of DPV under which a city's own purpose falls; empty: none is named.
        ja, en: what it is called; where empty, as the name's own term, or the name.
    """

    name: str
    within: str = ""
    ja: str = ""
    en: str = ""

    def __post_init__(self) -> None:
        check_purpose(self.name)
        for label in (self.within, self.ja, self.en):
            _check_label(label)
        for term in (self.name, self.within):
            if _is_term(term) and _term(term) not in DPV:
                raise InvalidQueryError(f"{term!r} is no purpose of DPV 2.0: see datasov.model.purposes.DPV")
        if self.within and not _is_term(self.within):
            raise InvalidQueryError("within= is a term of DPV: write it like within='dpv:ImprovePublicServices'")
        if _is_term(self.name) and (self.within or self.ja or self.en):
            raise InvalidQueryError("a term of DPV has its own labels: give yours to a purpose with a name of your own")

    @property
    def iri(self) -> str:
        """The IRI of DPV's term: the purpose itself, or what it falls under; empty where neither is named."""
        term = self.name if _is_term(self.name) else self.within
        return NAMESPACE + _term(term) if term else ""

    def label(self, language: str) -> str:
        """What it is called in "ja" or "en"."""
        if _is_term(self.name):
            en, ja = DPV[_term(self.name)]
            return ja if language == "ja" else en
        return (self.ja if language == "ja" else self.en) or self.name

    def document(self) -> dict[str, str]:
        """As a city's settings and a vault's notes keep it: the arguments that make it again."""
        return {"name": self.name, "within": self.within, "ja": self.ja, "en": self.en}


def _is_term(text: str) -> bool:
    return text.startswith((PREFIX, NAMESPACE))


def _term(text: str) -> str:
    return text.removeprefix(NAMESPACE).removeprefix(PREFIX)


def _check_label(label: object) -> None:
    if (
        not isinstance(label, str) or len(label) > _MAX_LABEL or not label.isprintable() or label != label.strip()
        or unicodedata.normalize("NFC", label) != label
    ):  # fmt: skip
        raise InvalidQueryError(
            "a purpose's label is one line of at most 200 printable characters, in Unicode's NFC form"
        )
    check_text(label, "a purpose's label")


def as_purpose(purpose: object) -> Purpose:
    """A purpose of its name; InvalidQueryError where it is none."""
    if isinstance(purpose, Purpose):
        return purpose
    check_purpose(purpose)
    assert isinstance(purpose, str)
    return Purpose(purpose)


def declared(purposes: Sequence[str | Purpose]) -> tuple[Purpose, ...]:
    """Purposes by name, ascending; InvalidQueryError where one is none, or two of one name differ."""
    found: dict[str, Purpose] = {}
    for purpose in map(as_purpose, purposes):
        if found.setdefault(purpose.name, purpose) != purpose:
            raise InvalidQueryError("two purposes of one name: give each its own")
    return tuple(found[name] for name in sorted(found))


def named(purposes: Sequence[str | Purpose], known: Sequence[Purpose]) -> bool:
    """Whether these are the known purposes: by name, and where more than a name is given, in all of it."""
    by_name = {p.name: p for p in known}
    return {p.name for p in map(as_purpose, purposes)} == by_name.keys() and all(
        by_name[p.name] == p for p in purposes if isinstance(p, Purpose)
    )
