"""What the AWS CLI knows beyond botocore's service models: commands such as `aws s3 cp`, and options.

Made by find_aws_additions.py from awscli 1.46.3; not edited by hand. A line: service, operation, its options.
"""

ADDITIONS = """
apigateway create-rest-api --api-version
apigatewayv2 create-api --api-version
apigatewayv2 update-api --api-version
clouddirectory publish-schema --schema-version
cloudformation deploy --capabilities --disable-rollback --fail-on-empty-changeset --force-upload --kms-key-id
    --no-disable-rollback --no-execute-changeset --no-fail-on-empty-changeset --notification-arns
    --parameter-overrides --role-arn --s3-bucket --s3-prefix --stack-name --tags --template-file
cloudformation package --force-upload --kms-key-id --metadata --output-template-file --s3-bucket --s3-prefix
    --template-file --use-json
cloudfront create-distribution --default-root-object --origin-domain-name
cloudfront create-invalidation --paths
cloudfront sign --date-greater-than --date-less-than --ip-address --key-pair-id --private-key --url
cloudfront update-distribution --default-root-object
cloudsearch define-expression --name
cloudsearch define-index-field --analysis-scheme --default-value --facet-enabled --highlight-enabled --name
    --return-enabled --search-enabled --sort-enabled --source-field --type
cloudsearchdomain search --search-query
cloudsearchdomain suggest --suggest-query
cloudtrail create-subscription --include-global-service-events --name --s3-custom-policy --s3-new-bucket
    --s3-prefix --s3-use-bucket --sns-custom-policy --sns-new-topic
cloudtrail update-subscription --include-global-service-events --name --s3-custom-policy --s3-new-bucket
    --s3-prefix --s3-use-bucket --sns-custom-policy --sns-new-topic
cloudtrail validate-logs --account-id --end-time --s3-bucket --s3-prefix --start-time --trail-arn --verbose
cloudwatch get-o-tel-enrichment
cloudwatch put-metric-data --dimensions --metric-name --statistic-values --storage-resolution --timestamp
    --unit --value
cloudwatch start-o-tel-enrichment --exclude-filters --include-filters
cloudwatch stop-o-tel-enrichment
codeartifact login --domain --domain-owner --dry-run --duration-seconds --endpoint-type --namespace
    --repository --tool
codecommit credential-helper
codepipeline create-custom-action-type --action-version
codepipeline delete-custom-action-type --action-version
codepipeline get-action-type --action-version
codepipeline get-pipeline --pipeline-version
cognito-identity create-identity-pool --open-id-connect-provider-ar-ns
configservice get-status
configservice put-configuration-recorder --recording-group
configservice subscribe --iam-role --s3-bucket --sns-topic
configure add-model --service-model --service-name
configure get
configure list
configure set
controltower create-landing-zone --landing-zone-version
controltower update-landing-zone --landing-zone-version
datapipeline activate-pipeline --parameter-values-uri
datapipeline create-default-roles
datapipeline get-pipeline-definition --pipeline-version
datapipeline list-runs --pipeline-id --schedule-interval --start-interval --status
datapipeline put-pipeline-definition --parameter-values-uri --pipeline-definition
datapipeline query-objects --objects-query
deploy create-deployment --github-location --s3-location
deploy create-deployment-group --ec-2-tag-set
deploy deregister --instance-name --no-delete-iam-user
deploy get-application-revision --github-location --s3-location
deploy install --agent-installer --config-file --override-config
deploy list-application-revisions --s-3-bucket --s-3-key-prefix
deploy push --application-name --description --ignore-hidden-files --no-ignore-hidden-files --s3-location
    --source
deploy register --iam-user-arn --instance-name --tags
deploy register-application-revision --github-location --s3-location
deploy uninstall
deploy update-deployment-group --ec-2-tag-set
dlm create-default-role --iam-endpoint --resource-type
ec2 authorize-security-group-egress --cidr --group-owner --port --protocol --source-group
ec2 authorize-security-group-ingress --cidr --group-owner --port --protocol --source-group
ec2 bundle-instance --bucket --owner-akid --owner-sak --policy --prefix
ec2 create-image --reboot
ec2 create-network-acl-entry --ingress
ec2 delete-network-acl-entry --ingress
ec2 get-password-data --priv-launch-key
ec2 modify-instance-attribute --no-disable-api-stop --no-disable-api-termination --no-ebs-optimized
    --no-ena-support --no-source-dest-check
ec2 modify-network-interface-attribute --no-source-dest-check
ec2 modify-subnet-attribute --no-assign-ipv6-address-on-creation --no-disable-lni-at-device-index
    --no-enable-dns64 --no-enable-resource-name-dns-a-record-on-launch
    --no-enable-resource-name-dns-aaaa-record-on-launch --no-map-customer-owned-ip-on-launch
    --no-map-public-ip-on-launch
ec2 modify-volume-attribute --no-auto-enable-io
ec2 modify-vpc-attribute --no-enable-dns-hostnames --no-enable-dns-support
    --no-enable-network-address-usage-metrics
ec2 replace-network-acl-entry --ingress
ec2 revoke-security-group-egress --cidr --group-owner --port --protocol --source-group
ec2 revoke-security-group-ingress --cidr --group-owner --port --protocol --source-group
ec2 run-instances --associate-public-ip-address --count --enable-api-termination
    --no-associate-public-ip-address --secondary-private-ip-address-count --secondary-private-ip-addresses
ecr get-login --include-email --no-include-email --registry-ids
ecr get-login-password
ecr-public get-login-password
ecs create-daemon --disable-execute-command
ecs create-service --disable-execute-command
ecs deploy --cluster --codedeploy-application --codedeploy-appspec --codedeploy-deployment-group --service
    --task-definition
ecs execute-command --non-interactive
ecs run-task --disable-execute-command
ecs start-task --disable-execute-command
ecs update-daemon --disable-execute-command
ecs update-service --disable-execute-command
eks create-cluster --kubernetes-version
eks create-nodegroup --kubernetes-version
eks get-token --cluster-id --cluster-name --role-arn
eks update-cluster-version --kubernetes-version
eks update-kubeconfig --alias --assume-role-arn --dry-run --kubeconfig --name --proxy-url --role-arn
    --user-alias --verbose
eks update-nodegroup-version --kubernetes-version
elasticache create-replication-group --preferred-cache-cluster-a-zs
emr add-instance-groups --cluster-id
emr add-steps --cluster-id --execution-role-arn --steps
emr create-cluster --additional-info --ami-version --applications --auto-scaling-role --auto-terminate
    --auto-termination-policy --bootstrap-actions --configurations --custom-ami-id --ebs-root-volume-iops
    --ebs-root-volume-size --ebs-root-volume-throughput --ec2-attributes --emrfs --enable-debugging
    --extended-support --instance-count --instance-fleets --instance-groups --instance-type
    --kerberos-attributes --log-encryption-kms-key-id --log-uri --managed-scaling-policy
    --monitoring-configuration --name --no-auto-terminate --no-enable-debugging --no-extended-support
    --no-session-enabled --no-termination-protected --no-unhealthy-node-replacement --no-visible-to-all-users
    --os-release-label --placement-group-configs --release-label --repo-upgrade-on-boot
    --restore-from-hbase-backup --scale-down-behavior --security-configuration --service-role
    --session-enabled --step-concurrency-level --step-execution-role-arn --steps --tags
    --termination-protected --unhealthy-node-replacement --use-default-roles --visible-to-all-users
emr create-default-roles --iam-endpoint
emr create-hbase-backup --cluster-id --consistent --dir
emr disable-hbase-backups --cluster-id --full --incremental
emr get --cluster-id --dest --key-pair-file --src --ssh-options
emr install-applications --applications --cluster-id
emr list-clusters --active --failed --terminated
emr modify-cluster-attributes --auto-terminate --cluster-id --no-auto-terminate --no-termination-protected
    --no-unhealthy-node-replacement --no-visible-to-all-users --termination-protected
    --unhealthy-node-replacement --visible-to-all-users
emr put --cluster-id --dest --key-pair-file --src --ssh-options
emr restore-from-hbase-backup --backup-version --cluster-id --dir
emr schedule-hbase-backup --cluster-id --consistent --dir --interval --start-time --type --unit
emr socks --cluster-id --key-pair-file --ssh-options
emr ssh --cluster-id --command --key-pair-file --ssh-options
emr terminate-clusters --cluster-ids
emr-containers update-role-trust-policy --cluster-name --dry-run --iam-endpoint --namespace --role-name
gamelift create-build --build-version
gamelift create-script --script-version
gamelift get-game-session-log --game-session-id --save-as
gamelift update-build --build-version
gamelift update-script --script-version
gamelift upload-build --build-root --build-version --name --operating-system --server-sdk-version --tags
glue get-unfiltered-partition-metadata --resource-region
glue get-unfiltered-partitions-metadata --resource-region
glue get-unfiltered-table-metadata --resource-region
history list
history show --exclude --format --include
iam create-virtual-mfa-device --bootstrap-method --outfile
iam enable-mfa-device --authentication-code-1 --authentication-code-2
iam resync-mfa-device --authentication-code-1 --authentication-code-2
importexport get-shipping-label --street-1 --street-2 --street-3
iot create-certificate-from-csr --certificate-pem-outfile
iot create-keys-and-certificate --certificate-pem-outfile --private-key-outfile --public-key-outfile
iotwireless create-device-profile --lorawan
iotwireless create-fuota-task --lorawan
iotwireless create-multicast-group --lorawan
iotwireless create-service-profile --lorawan
iotwireless create-wireless-device --lorawan
iotwireless create-wireless-gateway --lorawan
iotwireless start-fuota-task --lorawan
iotwireless start-multicast-group-session --lorawan
iotwireless update-fuota-task --lorawan
iotwireless update-multicast-group --lorawan
iotwireless update-wireless-device --lorawan
kinesisanalytics add-application-output --application-output
kinesisanalyticsv2 add-application-output --application-output
lambda create-function --zip-file
lambda publish-layer-version --zip-file
lambda publish-version --code-sha-256
lex-models delete-bot-version --bot-version
lex-models delete-intent-version --intent-version
lex-models delete-slot-type-version --slot-type-version
lex-models get-export --resource-version
lex-models get-intent --intent-version
lex-models get-slot-type --slot-type-version
license-manager delete-grant --grant-version
license-manager get-grant --grant-version
license-manager get-license --license-version
lightsail import-key-pair --public-key-base-64
mgn associate-source-servers --source-server-i-ds
mgn create-replication-configuration-template --replication-servers-security-groups-i-ds
mgn describe-replication-configuration-templates --replication-configuration-template-i-ds
mgn disassociate-source-servers --source-server-i-ds
mgn start-cutover --source-server-i-ds
mgn start-test --source-server-i-ds
mgn terminate-target-instances --source-server-i-ds
mgn update-replication-configuration --replication-servers-security-groups-i-ds
mgn update-replication-configuration-template --replication-servers-security-groups-i-ds
mturk list-hi-ts-for-qualification-type --max-results --next-token --qualification-type-id
mturk list-qualification-types --types-query
pinpoint delete-email-template --template-version
pinpoint delete-in-app-template --template-version
pinpoint delete-push-template --template-version
pinpoint delete-sms-template --template-version
pinpoint delete-voice-template --template-version
pinpoint get-campaign-version --campaign-version
pinpoint get-email-template --template-version
pinpoint get-in-app-template --template-version
pinpoint get-push-template --template-version
pinpoint get-segment-version --segment-version
pinpoint get-sms-template --template-version
pinpoint get-voice-template --template-version
pinpoint update-email-template --template-version
pinpoint update-in-app-template --template-version
pinpoint update-push-template --template-version
pinpoint update-sms-template --template-version
pinpoint update-voice-template --template-version
quicksight start-asset-bundle-import-job --asset-bundle-import-source-bytes
rds add-option-to-option-group --apply-immediately --no-apply-immediately --option-group-name --options
rds generate-db-auth-token --hostname --port --username
rds remove-option-from-option-group --apply-immediately --no-apply-immediately --option-group-name --options
rekognition compare-faces --source-image-bytes --target-image-bytes
rekognition create-stream-processor --stream-processor-output
rekognition detect-custom-labels --image-bytes
rekognition detect-faces --image-bytes
rekognition detect-labels --image-bytes
rekognition detect-moderation-labels --image-bytes
rekognition detect-protective-equipment --image-bytes
rekognition detect-text --image-bytes
rekognition index-faces --image-bytes
rekognition recognize-celebrities --image-bytes
rekognition search-faces-by-image --image-bytes
rekognition search-users-by-image --image-bytes
route53 delete-traffic-policy --traffic-policy-version
route53 get-traffic-policy --traffic-policy-version
route53 update-traffic-policy-comment --traffic-policy-version
route53domains view-billing --end-time --start-time
runtime.sagemaker invoke-endpoint --accept --body --content-type --custom-attributes --enable-explanations
    --endpoint-name --inference-component-name --inference-id --prefix-aware-id --session-id
    --target-container-hostname --target-model --target-variant
runtime.sagemaker invoke-endpoint-async --accept --body --content-type --custom-attributes --endpoint-name
    --filename --inference-id --input-location --invocation-timeout-seconds --request-ttl-seconds
    --s3-output-path-extension
s3 cp --acl --cache-control --case-conflict --checksum-algorithm --checksum-mode --content-disposition
    --content-encoding --content-language --content-type --dryrun --exclude --expected-size --expires
    --follow-symlinks --force-glacier-transfer --grants --ignore-glacier-warnings --include --metadata
    --metadata-directive --no-follow-symlinks --no-guess-mime-type --no-progress --only-show-errors --quiet
    --recursive --request-payer --source-region --sse --sse-c --sse-c-copy-source --sse-c-copy-source-key
    --sse-c-key --sse-kms-key-id --storage-class --website-redirect
s3 ls --bucket-name-prefix --bucket-region --human-readable --recursive --request-payer --summarize
s3 mb --tags
s3 mv --acl --cache-control --case-conflict --checksum-algorithm --checksum-mode --content-disposition
    --content-encoding --content-language --content-type --dryrun --exclude --expires --follow-symlinks
    --force-glacier-transfer --grants --ignore-glacier-warnings --include --metadata --metadata-directive
    --no-follow-symlinks --no-guess-mime-type --no-progress --only-show-errors --quiet --recursive
    --request-payer --source-region --sse --sse-c --sse-c-copy-source --sse-c-copy-source-key --sse-c-key
    --sse-kms-key-id --storage-class --validate-same-s3-paths --website-redirect
s3 presign --expires-in
s3 rb --force
s3 rm --dryrun --exclude --include --only-show-errors --quiet --recursive --request-payer
s3 sync --acl --cache-control --case-conflict --checksum-algorithm --checksum-mode --content-disposition
    --content-encoding --content-language --content-type --delete --dryrun --exact-timestamps --exclude
    --expires --follow-symlinks --force-glacier-transfer --grants --ignore-glacier-warnings --include
    --metadata --metadata-directive --no-follow-symlinks --no-guess-mime-type --no-progress --only-show-errors
    --quiet --request-payer --size-only --source-region --sse --sse-c --sse-c-copy-source
    --sse-c-copy-source-key --sse-c-key --sse-kms-key-id --storage-class --website-redirect
s3 website --error-document --index-document
sagemaker delete-image-version --version-number
sagemaker describe-image-version --version-number
sagemaker list-aliases --version-number
sagemaker update-image-version --version-number
servicecatalog generate
ses send-email --bcc --cc --from --html --subject --text --to
signin create-o-auth2-token --token-input
sns subscribe --notification-endpoint
socialmessaging delete-whatsapp-media-message --media-id --origination-phone-number-id
stepfunctions send-task-success --task-output
storagegateway describe-cached-iscsi-volumes --volume-ar-ns
storagegateway describe-stored-iscsi-volumes --volume-ar-ns
storagegateway describe-tape-archives --tape-ar-ns
storagegateway describe-tapes --tape-ar-ns
storagegateway describe-vtl-devices --vtl-device-ar-ns
swf register-activity-type --activity-version
swf register-workflow-type --workflow-version
translate import-terminology --data-file
translate translate-document --document-content
workdocs create-notification-subscription --notification-endpoint
workdocs describe-users --user-query
"""
